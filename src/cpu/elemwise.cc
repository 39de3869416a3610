// Element-by-element loops, cut into chunks for the threads.
#include "ops/elemwise.h"

#include <algorithm>

#include "cpu/kernels.h"
#include "ops/arith.h"

namespace cvm {
namespace {

constexpr int64_t kGrain = 1 << 14;  // elements worth handing to a thread

template <class F>
class UnaryKernel : public Kernel {
 public:
  UnaryKernel(const NodeInfo& n, F f) : Kernel(n), f_(f), size_(size_of(n.out[0])) {}
  void run(const Buffers& b, Team& team) const override {
    const int32_t* in = b.in[0];
    int32_t* out = b.out[0];
    const F f = f_;
    team.parallel_for(size_, kGrain, [=](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) out[i] = f(in[i]);
    });
  }

 private:
  F f_;
  int64_t size_;
};

template <class F>
std::unique_ptr<Kernel> unary(const NodeInfo& n, F f) {
  return std::make_unique<UnaryKernel<F>>(n, f);
}

template <class F>
class BinaryKernel : public Kernel {
 public:
  BinaryKernel(const NodeInfo& n, F f) : Kernel(n), f_(f), size_(size_of(n.out[0])) {}
  void run(const Buffers& b, Team& team) const override {
    const int32_t *x = b.in[0], *y = b.in[1];
    int32_t* out = b.out[0];
    const F f = f_;
    team.parallel_for(size_, kGrain, [=](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) out[i] = f(x[i], y[i]);
    });
  }

 private:
  F f_;
  int64_t size_;
};

template <class F>
std::unique_ptr<Kernel> binary(const NodeInfo& n, F f) {
  return std::make_unique<BinaryKernel<F>>(n, f);
}

}  // namespace

std::unique_ptr<Kernel> make_relu(const NodeInfo& n) {
  return unary(n, [](int32_t x) { return x > 0 ? x : 0; });
}

std::unique_ptr<Kernel> make_abs(const NodeInfo& n) {
  return unary(n, [](int32_t x) { return x < 0 ? wrap_neg(x) : x; });
}

std::unique_ptr<Kernel> make_negative(const NodeInfo& n) {
  return unary(n, [](int32_t x) { return wrap_neg(x); });
}

std::unique_ptr<Kernel> make_clip(const NodeInfo& n) {
  const int32_t low = n.as<ClipAttrs>().a_min, high = n.as<ClipAttrs>().a_max;
  return unary(n, [=](int32_t x) { return std::min(std::max(x, low), high); });
}

std::unique_ptr<Kernel> make_cvm_clip(const NodeInfo& n) {
  const int32_t bound = int_max(n.as<BitsAttrs>().precision);
  return unary(n, [=](int32_t x) { return clamp_to(x, bound); });
}

std::unique_ptr<Kernel> make_cvm_right_shift(const NodeInfo& n) {
  const int32_t bound = int_max(n.as<BitsAttrs>().precision), shift = n.as<BitsAttrs>().shift_bit;
  return unary(n, [=](int32_t x) { return clamp_to(round_shift(x, shift), bound); });
}

std::unique_ptr<Kernel> make_cvm_left_shift(const NodeInfo& n) {
  const int32_t bound = int_max(n.as<BitsAttrs>().precision), shift = n.as<BitsAttrs>().shift_bit;
  return unary(n, [=](int32_t x) { return clamp_to(wrap_shl(x, shift), bound); });
}

std::unique_ptr<Kernel> make_elemwise_add(const NodeInfo& n) {
  return binary(n, [](int32_t x, int32_t y) { return wrap_add(x, y); });
}

std::unique_ptr<Kernel> make_elemwise_sub(const NodeInfo& n) {
  return binary(n, [](int32_t x, int32_t y) { return wrap_sub(x, y); });
}

}  // namespace cvm
