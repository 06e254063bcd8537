#pragma once
#include <functional>
#include <string>
#include <type_traits>
#include <vector>

#include "engine/autograd.h"
#include "engine/tensor.h"

/// The engine's kernels as a device's benchmark sees them: each is built on any device from the same values,
/// so that the CPU's result is there to be held against before anything is timed.
namespace cairn::bench {

/// One kernel with its tensors.
struct Built {
  std::function<void()> run;
  std::vector<Tensor> results;  // what run writes
};

struct Case {
  std::string op;
  Shape shape;  // of its input
  DType dtype = DType::f32;
  double bytes = 0;  // what it has to read and write at least
  double flops = 0;  // of products; 0 where bytes are what limits it
  std::function<Built(Device, DType)> build;
};

/// Values k / 64 with -64 < k < 64, k drawn at random: bf16 and fp16 hold them exactly.
Tensor values(const Shape& shape, DType dtype, Device device, std::uint64_t seed);

/// The tensors of one kernel, made as its arguments are written down.
class Tensors {
 public:
  Tensors(Device device, DType dtype) : device_(device), dtype_(dtype) {}
  kernels::ConstView in(const Shape& shape) { return in(shape, dtype_); }
  kernels::ConstView in(const Shape& shape, DType dtype) {
    return keep(values(shape, dtype, device_, ++seed_)).view();
  }
  kernels::View out(const Shape& shape) { return out(shape, dtype_); }
  kernels::View out(const Shape& shape, DType dtype) {
    results_.push_back(zeros(shape, dtype, device_));
    return results_.back().out();
  }
  /// Written, but no result: state that a second run would find changed, or an index.
  kernels::View state(const Tensor& tensor) { return keep(tensor).out(); }
  Tensor& keep(Tensor tensor) { return kept_.emplace_back(std::move(tensor)); }
  Device device() const { return device_; }

  template <class Args>
  Built run(const kernels::KernelSlot<Args>& slot, std::type_identity_t<Args> args) const {
    return {[&slot, args, kept = kept_, results = results_] { call(slot, results[0].queue(), args); },
            results_};
  }

 private:
  Device device_;
  DType dtype_;
  std::uint64_t seed_ = 0;
  std::vector<Tensor> kept_, results_;
};

/// `batch`: images; 32 on a GPU, fewer where kernels are emulated.
std::vector<Case> memory_bound_cases(std::int64_t batch);
std::vector<Case> product_cases(std::int64_t batch);

}  // namespace cairn::bench
