// The steps of a plan on the CPU.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu/isa/isa.h"
#include "cpu/pixels.h"
#include "plan/plan.h"
#include "plan/thread_pool.h"

namespace cvm {

// A step, ready to run once its weights are packed; from then on immutable, so
// that contexts can share it.
class CpuStep {
 public:
  virtual ~CpuStep() = default;
  // Bytes of packed weights, and packing them to where they stay. All steps
  // share one block, which large pages can hold.
  virtual int64_t packed_bytes() const { return 0; }
  virtual void pack(char* /*to*/) {}
  // Working memory of each thread, in bytes.
  virtual int64_t scratch_bytes() const { return 0; }
  // Runs for these images. `scratch` has scratch_bytes() for each thread, one after the other.
  virtual void run(Span images, char* arena, char* scratch, Team& team) const = 0;
};

// `plain_offset`: where the int32 tensor of the step's entry lies, if it has one.
// The step must outlive the result.
std::unique_ptr<CpuStep> make_cpu_step(const Step& step, int64_t plain_offset, const Isa& isa);

// Those of each kind: they cut a step into pieces for the inner loops of an
// instruction set, with addresses, packing and threads, the same for all of them.
std::unique_ptr<CpuStep> make_conv_step(const Step& step, const Isa& isa);
std::unique_ptr<CpuStep> make_depthwise_step(const Step& step, const Isa& isa);
std::unique_ptr<CpuStep> make_map_step(const Step& step, const Isa& isa);
std::unique_ptr<CpuStep> make_window_step(const Step& step, const Isa& isa);
std::unique_ptr<CpuStep> make_pack_step(const Step& step, int64_t plain_offset);

}  // namespace cvm
