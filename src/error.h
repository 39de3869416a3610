// The two kinds of failure of the runtime.
//
// A logic error is the fault of the model or of the caller and is the same on
// every node; a runtime error is the fault of this machine or a file that
// cannot be read at all. The difference is part of consensus: see c_api.h.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace cvm {

enum class Status { kOk = 0, kLogic = 1, kRuntime = 2 };

class Error : public std::exception {
 public:
  Error(Status status, std::string text) : status_(status), text_(std::move(text)) {}
  Status status() const { return status_; }
  const std::string& text() const { return text_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  Status status_;
  std::string text_;
};

template <class... Parts>
std::string concat(const Parts&... parts) {
  std::ostringstream os;
  (os << ... << parts);
  return os.str();
}

template <class... Parts>
[[noreturn]] void logic_error(const Parts&... parts) {
  throw Error(Status::kLogic, concat(parts...));
}

template <class... Parts>
[[noreturn]] void runtime_error(const Parts&... parts) {
  throw Error(Status::kRuntime, concat(parts...));
}

// Text of a file in an error message: quoted, shortened, only printable bytes.
inline std::string quoted(const std::string& text) {
  constexpr size_t kLongest = 60;
  std::string out = "'";
  for (char c : text.substr(0, kLongest)) out += (c >= 32 && c < 127) ? c : '?';
  return out + (text.size() > kLongest ? "...'" : "'");
}

}  // namespace cvm
