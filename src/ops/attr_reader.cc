#include "ops/attr_reader.h"

#include <algorithm>
#include <limits>

#include "error.h"

namespace cvm {
namespace {

bool is_blank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// A cursor over attribute text. Every step reports success.
class Cursor {
 public:
  explicit Cursor(const std::string& text) : text_(text) {}

  void blanks() {
    while (at_ < text_.size() && is_blank(text_[at_])) ++at_;
  }
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool at_end() {
    blanks();
    return at_ == text_.size();
  }
  bool integer(int64_t* value) {
    blanks();
    const bool negative = take('-');
    if (!negative) take('+');
    if (at_ >= text_.size() || !is_digit(text_[at_])) return false;
    *value = 0;
    for (; at_ < text_.size() && is_digit(text_[at_]); ++at_) {
      const int64_t digit = text_[at_] - '0';
      if (__builtin_mul_overflow(*value, 10, value) ||
          __builtin_add_overflow(*value, negative ? -digit : digit, value))
        return false;
    }
    return true;
  }

 private:
  const std::string& text_;
  size_t at_ = 0;
};

bool parse_int(const std::string& text, int32_t* value) {
  Cursor in(text);
  int64_t wide = 0;
  if (!in.integer(&wide) || !in.at_end()) return false;
  if (wide < std::numeric_limits<int32_t>::min() || wide > std::numeric_limits<int32_t>::max())
    return false;
  *value = static_cast<int32_t>(wide);
  return true;
}

// The items after an opening bracket: comma separated, one trailing comma
// allowed, an L allowed after each.
bool parse_items(Cursor& in, char close, Tuple* items) {
  for (;;) {
    in.blanks();
    if (in.take(close)) return true;
    int64_t item = 0;
    if (!in.integer(&item)) return false;
    items->push_back(item);
    in.take('L');
    in.blanks();
    if (in.take(close)) return true;
    if (!in.take(',')) return false;
  }
}

bool parse_tuple(const std::string& text, Tuple* value) {
  Cursor in(text);
  Tuple items;
  in.blanks();
  if (in.take('(')) {
    if (!parse_items(in, ')', &items)) return false;
  } else if (in.take('[')) {
    if (!parse_items(in, ']', &items)) return false;
  } else {
    items.resize(1);
    if (!in.integer(&items[0])) return false;
  }
  if (!in.at_end()) return false;
  *value = std::move(items);
  return true;
}

[[noreturn]] void bad_text(const char* key, const std::string& text, const char* expected) {
  runtime_error("attribute '", key, "' is ", quoted(text), ", expected ", expected);
}

}  // namespace

const std::string* AttrReader::find(const char* key) {
  asked_.insert(key);
  const auto it = text_.find(key);
  return it == text_.end() ? nullptr : &it->second;
}

const std::string* AttrReader::find_required(const char* key) {
  const std::string* text = find(key);
  if (!text) runtime_error("attribute '", key, "' is missing");
  return text;
}

void AttrReader::word(const char* key, std::string* value,
                      std::initializer_list<const char*> words) {
  const std::string* text = find(key);
  if (!text) return;
  if (std::find(words.begin(), words.end(), *text) == words.end())
    bad_text(key, *text, "one of the listed words");
  *value = *text;
}

void AttrReader::finish() const {
  for (const auto& [key, value] : text_) {
    const size_t n = key.size();
    const bool hidden = n > 4 && key.compare(0, 2, "__") == 0 && key.compare(n - 2, 2, "__") == 0;
    if (!hidden && !asked_.count(key))
      runtime_error("attribute ", quoted(key), " (value ", quoted(value), ") is unknown");
  }
}

void AttrReader::read(const char* key, const std::string& text, int32_t* value) {
  if (!parse_int(text, value)) bad_text(key, text, "a 32-bit integer");
}

void AttrReader::read(const char* key, const std::string& text, bool* value) {
  std::string lower = text;
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (lower == "true" || lower == "1")
    *value = true;
  else if (lower == "false" || lower == "0")
    *value = false;
  else
    bad_text(key, text, "true, false, 1 or 0");
}

void AttrReader::read(const char*, const std::string& text, std::string* value) { *value = text; }

void AttrReader::read(const char* key, const std::string& text, Tuple* value) {
  if (!parse_tuple(text, value)) bad_text(key, text, "a tuple of integers such as (1, 2)");
}

void AttrReader::read(const char* key, const std::string& text, std::optional<int32_t>* value) {
  if (text == "None") {
    value->reset();
    return;
  }
  int32_t number = 0;
  if (!parse_int(text, &number)) bad_text(key, text, "None or a 32-bit integer");
  *value = number;
}

}  // namespace cvm
