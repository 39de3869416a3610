// Multiply-adds per second of one thread that issues nothing but dot products.
//
// Prints one line with the instruction sets that this processor has, best first; then answers each line of stdin that names one
// of them with its rate, measured for about 20 ms. Operands stay in registers, 12 accumulators hide the latency. Time is the
// processor time of this process: what others run beside it does not lower the roof.
#if !defined(__x86_64__)
#error "the roofline probe knows the dot products of x86-64 only"
#endif
#include <cpuid.h>

#include <ctime>
#include <iostream>
#include <map>
#include <string>

namespace {

// A function that issues BODY for the accumulator registers \r = 4..15, `rounds` times. What the registers hold does not matter:
// the time of integer instructions does not depend on it.
#define PROBE(name, body)                                                                         \
  void name(long rounds) {                                                                        \
    asm volatile("1:\n.irp r,4,5,6,7,8,9,10,11,12,13,14,15\n" body                                \
                 "\n.endr\ndec %0\njnz 1b\nvzeroupper"                                            \
                 : "+r"(rounds)                                                                   \
                 :                                                                                \
                 : "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",  \
                   "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");                 \
  }

PROBE(Avx512Vnni, "vpdpbusd %%zmm1, %%zmm0, %%zmm\\r")
PROBE(AvxVnni, "%{vex%} vpdpbusd %%ymm1, %%ymm0, %%ymm\\r")
// The exact multiply-add of 16-bit pairs, and the one of bytes, whose 16-bit sums saturate.
PROBE(Avx512, "vpmaddwd %%zmm1, %%zmm0, %%zmm2\nvpaddd %%zmm2, %%zmm\\r, %%zmm\\r")
PROBE(Avx2, "vpmaddwd %%ymm1, %%ymm0, %%ymm2\nvpaddd %%ymm2, %%ymm\\r, %%ymm\\r")
PROBE(Avx2Bytes, "vpmaddubsw %%ymm1, %%ymm0, %%ymm2\nvpmaddwd %%ymm3, %%ymm2, %%ymm2\nvpaddd %%ymm2, %%ymm\\r, %%ymm\\r")

struct Probe {
  void (*issue)(long rounds);
  double macs;  // multiply-adds per accumulator and round
  bool available;
};

bool HasAvxVnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
}

double Rate(const Probe& probe) {
  for (long rounds = 1 << 16;; rounds *= 2) {
    const std::clock_t start = std::clock();
    probe.issue(rounds);
    const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
    if (seconds > 0.02) return probe.macs * 12.0 * static_cast<double>(rounds) / seconds;
  }
}

}  // namespace

int main() {
  const bool avx512 = __builtin_cpu_supports("avx512bw");
  const std::map<std::string, Probe> probes = {
      {"avx512vnni", {Avx512Vnni, 64, avx512 && __builtin_cpu_supports("avx512vnni")}},
      {"avxvnni", {AvxVnni, 32, HasAvxVnni()}},
      {"avx512", {Avx512, 32, avx512}},
      {"avx2", {Avx2, 16, static_cast<bool>(__builtin_cpu_supports("avx2"))}},
      {"avx2-bytes", {Avx2Bytes, 32, static_cast<bool>(__builtin_cpu_supports("avx2"))}},
  };
  for (const char* name : {"avx512vnni", "avxvnni", "avx512", "avx2-bytes", "avx2"}) {
    if (probes.at(name).available) std::cout << name << ' ';
  }
  std::cout << std::endl;
  for (std::string name; std::getline(std::cin, name);) {
    const auto found = probes.find(name);
    if (found == probes.end() || !found->second.available) {
      std::cerr << "no dot products of '" << name << "' on this processor\n";
      return 1;
    }
    std::cout << Rate(found->second) << std::endl;
  }
}
