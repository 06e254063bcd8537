#pragma once
#include <cstdint>

#include "engine/nn/module.h"
#include "engine/tensor.h"

namespace cairn::nn {

/// The bound of PyTorch's default initialisation of convolution and linear layers: kaiming_uniform with a =
/// sqrt(5) for the weight and the same for the bias, which is 1 / sqrt(fan_in).
double default_bound(std::int64_t fan_in);
/// Standard deviation of kaiming_normal(mode fan_out, relu), He et al. 2015: sqrt(2 / fan_out).
double kaiming_normal_std(std::int64_t fan_out);

/// Makes the first values of a model's parameters, in order of construction. Parameter number t (counted from
/// 0 over all parameters, constants too, so that it is the place in named_parameters()) draws from
/// philox(seed, philox_stream(kStreamInit, t), .) in the order of the FILE's elements: a filter [K,R,S,C]
/// takes the numbers of PyTorch's [K,C,R,S]. Any program that has Philox can make the same weights.
class Initializer {
 public:
  explicit Initializer(std::uint64_t seed) : seed_(seed) {}

  /// Element i = (2u - 1) * bound, u = uniform_float(word i % 4 of block i / 4), in double, rounded to fp32.
  Tensor uniform(const Shape& shape, double bound, Layout layout = Layout::plain);
  /// Element i = std * sqrt(-2 ln u1) * cos(2 pi u2) (Box & Muller 1958) with u1 = (w + 1) / 2^32, u2 = v /
  /// 2^32 from words w, v = 2(i % 2), 2(i % 2) + 1 of block i / 2, in double, rounded to fp32.
  Tensor normal(const Shape& shape, double std, Layout layout = Layout::plain);
  Tensor constant(const Shape& shape, double value);

 private:
  std::uint64_t next_stream();
  std::uint64_t seed_;
  std::uint64_t ordinal_ = 0;
};

/// While one lives, this thread's Initializers leave the values that they would draw unset: for a model whose
/// weights are loaded next (as PyTorch's skip_init). Constants are set.
class SkipInit {
 public:
  SkipInit();
  ~SkipInit();
  SkipInit(const SkipInit&) = delete;
  SkipInit& operator=(const SkipInit&) = delete;
};

}  // namespace cairn::nn
