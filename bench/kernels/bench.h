#pragma once
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/onednn.h"
#include "kernels/dispatch.h"

/// What the kernels' benchmarks share: tensors, the check that comes before the clock, rows named
/// OP/SHAPE/DTYPE/WHO with bytes_per_second as the rate. `copy` rows are the machine's own bound.
namespace cairn::bench {

/// A tensor in memory of its own, 64-byte aligned, filled with values in (-1, 1): drawn once and repeated,
/// for drawing each would take longer than all that is timed.
class Buffer {
 public:
  Buffer(DType dtype, const Shape& shape, std::uint32_t seed = 1)
      : dtype_(dtype), shape_(shape), memory_(allocate(bytes())) {
    constexpr std::int64_t kDrawn = 65537;  // a prime: channels get different values in each pixel
    const std::int64_t drawn = std::min(kDrawn, shape.numel());
    std::minstd_rand random(seed);
    std::uniform_real_distribution<float> value(-1.0f, 1.0f);
    for (std::int64_t i = 0; i < drawn; ++i) {
      if (dtype == DType::f32) view().as<float>()[i] = value(random);
      if (dtype == DType::bf16) view().as<BFloat16>()[i] = BFloat16(value(random));
      if (dtype == DType::i32) view().as<std::int32_t>()[i] = static_cast<std::int32_t>(random() % 7);
    }
    for (std::int64_t i = drawn; i < shape.numel(); i += drawn)
      std::memcpy(memory_.get() + static_cast<std::size_t>(i) * size_of(dtype_), memory_.get(),
                  static_cast<std::size_t>(std::min(drawn, shape.numel() - i)) * size_of(dtype_));
  }
  std::size_t bytes() const { return static_cast<std::size_t>(shape_.numel()) * size_of(dtype_); }
  kernels::View view() { return {memory_.get(), dtype_, shape_}; }
  void* data() { return memory_.get(); }
  std::vector<float> values() {
    std::vector<float> v(static_cast<std::size_t>(shape_.numel()));
    for (std::size_t i = 0; i < v.size(); ++i)
      v[i] = dtype_ == DType::bf16 ? static_cast<float>(view().as<BFloat16>()[i]) : view().as<float>()[i];
    return v;
  }

 private:
  struct Free {
    void operator()(unsigned char* p) const { std::free(p); }
  };
  static unsigned char* allocate(std::size_t bytes) {
    void* p = std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (!p) throw std::bad_alloc();
    return static_cast<unsigned char*>(p);
  }
  DType dtype_;
  Shape shape_;
  std::unique_ptr<unsigned char, Free> memory_;
};

/// One contender: runs the job once.
using Job = std::function<void()>;

/// A kernel of ours with its scratch taken beforehand, as the engine does.
template <class Args>
Job cairn_job(const kernels::KernelSlot<Args>& slot, Args args) {
  const kernels::Queue queue;
  std::shared_ptr<Buffer> scratch;
  if constexpr (requires { args.scratch_bytes; }) {
    args.scratch_bytes = slot.workspace(queue, args);
    scratch = std::make_shared<Buffer>(DType::u8, Shape{static_cast<std::int64_t>(args.scratch_bytes)});
    args.scratch = scratch->data();
  }
  return [&slot, queue, args, scratch] {
    if (const kernels::Status s = slot(queue, args); !s.ok()) throw std::runtime_error(s.message());
  };
}

/// A oneDNN primitive with its arguments.
inline Job onednn_job(dnnl::primitive primitive, std::unordered_map<int, dnnl::memory> arguments) {
  return [primitive, arguments] {
    primitive.execute(kernels::onednn::stream(), arguments);
    kernels::onednn::stream().wait();
  };
}

/// Runs both once; throws where what they wrote differs by more than `tolerance` in more than `kinks`
/// elements: those whose ReLU lies within a rounding of 0, so that the two may rightly disagree about it.
inline void require_equal(const std::string& what, const Job& ours, Buffer& our_result, const Job& theirs,
                          Buffer& their_result, float tolerance, std::int64_t kinks = 0) {
  ours();
  theirs();
  const std::vector<float> a = our_result.values(), b = their_result.values();
  std::int64_t different = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= tolerance * (1 + std::abs(b[i]))) && ++different > kinks)
      throw std::runtime_error(what + ": element " + std::to_string(i) + " is " + std::to_string(a[i]) +
                               ", oneDNN has " + std::to_string(b[i]) + ": not timed");
}

/// bf16 keeps 8 bits; sums over a tensor's rows differ in their order.
inline float tolerance_of(DType t) { return t == DType::bf16 ? 0x1p-6f : 1e-4f; }

/// Registers OP/SHAPE/DTYPE/WHO. `keep` owns the tensors. `bytes`: what the job has to read and write at
/// least.
inline void add_row(const std::string& name, Job job, std::shared_ptr<void> keep, double bytes) {
  benchmark::RegisterBenchmark(name.c_str(),
                               [job = std::move(job), keep, bytes](benchmark::State& state) {
                                 job();  // pages touched, primitives warm
                                 for (auto _ : state) job();
                                 state.counters["bytes_per_second"] =
                                     benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate,
                                                        benchmark::Counter::kIs1024);
                               })
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

inline std::string row_name(const std::string& op, const Shape& shape, DType t) {
  std::string name = op + "/";
  for (int i = 0; i < shape.rank; ++i) name += (i ? "x" : "") + std::to_string(shape[i]);
  return name + "/" + name_of(t) + "/";
}

void register_pointwise();
void register_elementwise();
void register_resampling();
void register_batch_norm();
void register_pool();
void register_loss();
void register_optimizer();
void register_conv();
void register_plain();

}  // namespace cairn::bench
