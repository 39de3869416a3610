// Turns exceptions into status codes at the C interface.
#pragma once

#include <new>
#include <stdexcept>
#include <string>

#include "error.h"

namespace cvm {

// Remembers the text for CVMGetLastError and returns the status as a number.
int fail(Status status, const char* text) noexcept;

template <class F>
int guarded(F f) noexcept {
  try {
    f();
    return static_cast<int>(Status::kOk);
  } catch (const Error& e) {
    return fail(e.status(), e.what());
  } catch (const std::bad_alloc&) {
    return fail(Status::kRuntime, "out of memory");
  } catch (const std::exception& e) {
    return fail(Status::kRuntime, e.what());
  } catch (...) {
    return fail(Status::kRuntime, "unknown failure");
  }
}

template <class... Pointers>
void require(Pointers... pointers) {
  const bool all = (static_cast<bool>(pointers) && ...);
  if (!all) runtime_error("a null pointer was passed");
}

}  // namespace cvm
