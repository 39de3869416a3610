// Which instruction set runs.
#include <atomic>
#include <cstdlib>
#include <string>

#include "cpu/isa/isa.h"
#include "error.h"

namespace cvm {
namespace {

// From the best to the plainest. The build says which files its compiler has taken.
constexpr const Isa* kIsas[] = {
#ifdef CVM_HAS_AVX512VNNI
    &kAvx512Vnni,
#endif
#ifdef CVM_HAS_AVX512
    &kAvx512,
#endif
#ifdef CVM_HAS_AVXVNNI
    &kAvxVnni,
#endif
#ifdef CVM_HAS_AVX2
    &kAvx2,
#endif
#ifdef CVM_HAS_DOTPROD
    &kDotprod,
#endif
#ifdef CVM_HAS_NEON
    &kNeon,
#endif
    &kScalar,
};

const Isa& choose() {
  const char* const name = std::getenv("CVM_ISA");
  std::string names;
  for (const Isa* isa : kIsas) {
    if (!isa->available()) continue;
    if (!name || !*name || name == std::string(isa->name)) return *isa;
    names += (names.empty() ? "" : ", ") + std::string(isa->name);
  }
  runtime_error("CVM_ISA is ", quoted(name), "; this machine and build have ", names);
}

}  // namespace

// Without a lock, as a static reference would have: a child that was forked
// while another thread holds it would wait for ever. Every thread chooses the same.
const Isa& isa() {
  static std::atomic<const Isa*> chosen{nullptr};
  if (!chosen) chosen = &choose();
  return *chosen;
}

}  // namespace cvm
