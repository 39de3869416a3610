// The loops of AVX-VNNI on a processor that has the same instructions in AVX-512.
#define kAvxVnni kAvxVnniOfAvx512
namespace cvm {
struct Isa;
extern const Isa kAvxVnniOfAvx512;
}  // namespace cvm
#include "cpu/isa/avxvnni.cc"
