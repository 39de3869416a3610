#include "ops/nn.h"

#include <algorithm>

#include "cpu/gemm.h"
#include "cpu/kernels.h"
#include "ops/arith.h"

namespace cvm {
namespace {

constexpr int64_t kWorkPerChunk = 1 << 16;  // multiply-adds worth handing to a thread

class DenseKernel : public Kernel {
 public:
  DenseKernel(const NodeInfo& n, const int32_t* weight) : Kernel(n) {
    rows_ = n.in[0][0];
    depth_ = n.in[0][1];
    units_ = n.out[0][1];
    padded_ = gemm::pad_depth(depth_);
    weights_ = gemm::make_weights(units_, depth_);
    for (int64_t u = 0; u < units_; ++u)
      std::copy_n(weight + u * depth_, depth_, weights_.as<int16_t>() + u * padded_);
  }

  int64_t scratch_bytes(int) const override { return rows_ * padded_ * 2; }
  bool reads_input(int index) const override { return index != 1; }

  void run(const Buffers& b, ThreadPool& pool) const override {
    auto* x = static_cast<int16_t*>(b.scratch);
    for (int64_t m = 0; m < rows_; ++m) {
      std::copy_n(b.in[0] + m * depth_, depth_, x + m * padded_);
      std::fill(x + m * padded_ + depth_, x + (m + 1) * padded_, int16_t{0});
    }
    const int32_t* bias = info().in.size() == 3 ? b.in[2] : nullptr;
    const int64_t blocks = gemm::pad_columns(units_) / gemm::kColumns;
    const int64_t block_work = rows_ * padded_ * gemm::kColumns;
    pool.parallel_for(blocks, std::max<int64_t>(1, kWorkPerChunk / block_work),
                      [&](int64_t begin, int64_t end, int) {
                        for (int64_t k = begin; k < end; ++k) run_block(x, bias, k, b.out[0]);
                      });
  }

 private:
  void run_block(const int16_t* x, const int32_t* bias, int64_t block, int32_t* out) const {
    const int64_t first = block * gemm::kColumns;
    const int64_t columns = std::min<int64_t>(gemm::kColumns, units_ - first);
    const int16_t* w = weights_.as<int16_t>() + first * padded_;
    for (int64_t m = 0; m < rows_; ++m) {
      int32_t sums[gemm::kColumns];
      gemm::dot1(x + m * padded_, w, padded_, sums);
      for (int64_t c = 0; c < columns; ++c)
        out[m * units_ + first + c] = bias ? wrap_add(sums[c], bias[first + c]) : sums[c];
    }
  }

  int64_t rows_, depth_, units_, padded_;
  AlignedBlock weights_;
};

}  // namespace

std::unique_ptr<Kernel> make_dense(const NodeInfo& n, const Constants& constants) {
  const bool proven = n.in_sound[0] && n.in_sound[1];
  if (!constants[1] || !proven) return nullptr;
  return std::make_unique<DenseKernel>(n, constants[1]);
}

}  // namespace cvm
