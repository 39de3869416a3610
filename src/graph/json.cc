#include "graph/json.h"

#include "error.h"

namespace cvm {
namespace {

constexpr int kEnd = -1;

bool is_blank(int c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_digit(int c) { return c >= '0' && c <= '9'; }

}  // namespace

int JsonReader::peek() const {
  return at_ < length_ ? static_cast<unsigned char>(text_[at_]) : kEnd;
}

void JsonReader::skip_blanks() {
  while (is_blank(peek())) ++at_;
}

void JsonReader::fail(const std::string& expected) const {
  const int c = peek();
  const std::string found =
      c == kEnd ? "the end of the text" : quoted(std::string(1, static_cast<char>(c)));
  runtime_error(what_, ": expected ", expected, ", found ", found, " at byte ", at_);
}

void JsonReader::expect(char c) {
  skip_blanks();
  if (peek() != c) fail(quoted(std::string(1, c)));
  ++at_;
}

bool JsonReader::next(size_t count, char close) {
  skip_blanks();
  if (peek() == close) {
    ++at_;
    return false;
  }
  if (count > 0) {
    if (peek() != ',') fail(std::string("',' or '") + close + "'");
    ++at_;
  }
  return true;
}

bool JsonReader::next_member(size_t count, std::string* key) {
  if (!next(count, '}')) return false;
  *key = read_string();
  expect(':');
  return true;
}

void JsonReader::end_array(size_t count) {
  if (next_item(count)) fail("']'");
}

std::string JsonReader::read_string() {
  expect('"');
  std::string out;
  for (;;) {
    const int c = peek();
    if (c == kEnd || c == '\n' || c == '\r') fail("'\"' at the end of the string");
    ++at_;
    if (c == '"') return out;
    if (c != '\\') {
      out += static_cast<char>(c);
      continue;
    }
    switch (peek()) {
      case '"': out += '"'; break;
      case '\\': out += '\\'; break;
      case 'n': out += '\n'; break;
      case 'r': out += '\r'; break;
      case 't': out += '\t'; break;
      default: fail("one of \" \\ n r t after a backslash");
    }
    ++at_;
  }
}

int64_t JsonReader::read_int(int64_t low, int64_t high) {
  skip_blanks();
  const size_t start = at_;
  const bool negative = peek() == '-';
  if (negative || peek() == '+') ++at_;
  if (!is_digit(peek())) fail("an integer");
  int64_t value = 0;
  for (; is_digit(peek()); ++at_) {
    const int64_t digit = peek() - '0';
    if (__builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, negative ? -digit : digit, &value))
      runtime_error(what_, ": the integer at byte ", start, " does not fit 64 bits");
  }
  if (value < low || value > high)
    runtime_error(what_, ": the integer ", value, " at byte ", start, " is outside ", low, "..", high);
  return value;
}

}  // namespace cvm
