// Reader of the JSON dialect of CVM symbol files.
//
// Hand-written on purpose: which texts are accepted and which are refused is
// visible to consensus, so the dialect must not drift with a JSON library. It
// knows objects, arrays, strings and integers, five escapes, and no \u, floats
// or literals. The caller drives it with a fixed schema, so nothing recurses
// and deep nesting cannot exhaust the stack. Every violation is a runtime
// error that names its byte offset.
#pragma once

#include <cstdint>
#include <string>

namespace cvm {

class JsonReader {
 public:
  // `what` names the text in errors; the text must outlive the reader.
  JsonReader(const char* text, size_t length, const char* what)
      : text_(text), length_(length), what_(what) {}

  void begin_object() { expect('{'); }
  void begin_array() { expect('['); }

  // Steps to the next member or item; false once the bracket closed. `count`
  // is the caller's number of items read so far.
  bool next_member(size_t count, std::string* key);
  bool next_item(size_t count) { return next(count, ']'); }
  void end_array(size_t count);

  std::string read_string();
  // Integer within [low, high].
  int64_t read_int(int64_t low, int64_t high);

  size_t offset() const { return at_; }
  [[noreturn]] void fail(const std::string& expected) const;

 private:
  bool next(size_t count, char close);
  void expect(char c);
  void skip_blanks();
  int peek() const;

  const char* text_;
  size_t length_;
  size_t at_ = 0;
  const char* what_;
};

}  // namespace cvm
