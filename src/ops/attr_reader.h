// Reads typed attributes from their text form.
//
//   auto attrs = std::make_unique<DenseAttrs>();
//   AttrReader in(text);
//   in.required("units", &attrs->units);
//   in.optional("use_bias", &attrs->use_bias);
//   in.finish();
//
// The target's type selects the syntax, its value before the call is the
// default. Text that cannot be read, a missing required key and an unknown
// key are runtime errors.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "ops/operator.h"

namespace cvm {

using Tuple = std::vector<int64_t>;

class AttrReader {
 public:
  explicit AttrReader(const AttrText& text) : text_(text) {}

  template <class T>
  void optional(const char* key, T* value) {
    if (const std::string* text = find(key)) read(key, *text, value);
  }
  template <class T>
  void required(const char* key, T* value) {
    read(key, *find_required(key), value);
  }
  // One word of a list.
  void word(const char* key, std::string* value, std::initializer_list<const char*> words);
  // Refuses keys that nobody asked for, except those of the form __x__.
  void finish() const;

 private:
  const std::string* find(const char* key);
  const std::string* find_required(const char* key);
  static void read(const char* key, const std::string& text, int32_t* value);
  static void read(const char* key, const std::string& text, bool* value);
  static void read(const char* key, const std::string& text, std::string* value);
  static void read(const char* key, const std::string& text, Tuple* value);
  static void read(const char* key, const std::string& text, std::optional<int32_t>* value);

  const AttrText& text_;
  std::set<std::string> asked_;
};

}  // namespace cvm
