#include "engine/nn/init.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "engine/autograd.h"
#include "engine/nn/layout.h"
#include "kernels/cpu/parallel.h"
#include "kernels/philox.h"

namespace cairn::nn {
namespace {

thread_local int skipping = 0;

/// Fills a tensor in file order: `make` turns a Philox block into PerBlock values. By all threads: ModelCNN
/// has 51 million, which one thread draws in a good part of a second.
template <std::size_t PerBlock, class Make>
Tensor fill(const Shape& shape, Layout layout, std::uint64_t seed, std::uint64_t stream, Make make) {
  if (dry_run() || skipping > 0) return empty(shape);
  constexpr std::int64_t kGrain = 1024;  // blocks, some tens of microseconds
  Tensor t = empty(shape);
  float* const values = t.out().as<float>();
  const auto n = static_cast<std::size_t>(shape.numel());
  const auto blocks = static_cast<std::int64_t>((n + PerBlock - 1) / PerBlock);
  kernels::parallel_for(blocks, kGrain, [&](std::int64_t begin, std::int64_t end, int) {
    for (auto b = static_cast<std::size_t>(begin); b < static_cast<std::size_t>(end); ++b) {
      const std::array<float, PerBlock> block = make(philox(seed, stream, b));
      const std::size_t first = b * PerBlock;
      for (std::size_t i = 0; i < std::min(PerBlock, n - first); ++i)
        values[engine_index(shape, layout, first + i)] = block[i];
    }
  });
  return t;
}

}  // namespace

double default_bound(std::int64_t fan_in) { return 1.0 / std::sqrt(static_cast<double>(fan_in)); }
double kaiming_normal_std(std::int64_t fan_out) { return std::sqrt(2.0 / static_cast<double>(fan_out)); }

SkipInit::SkipInit() { ++skipping; }
SkipInit::~SkipInit() { --skipping; }

std::uint64_t Initializer::next_stream() { return philox_stream(kStreamInit, ordinal_++); }

Tensor Initializer::uniform(const Shape& shape, double bound, Layout layout) {
  return fill<4>(shape, layout, seed_, next_stream(), [bound](const Philox4x32& words) {
    std::array<float, 4> v{};
    for (std::size_t i = 0; i < 4; ++i)
      v[i] = static_cast<float>((2.0 * static_cast<double>(uniform_float(words.v[i])) - 1.0) * bound);
    return v;
  });
}

Tensor Initializer::normal(const Shape& shape, double std, Layout layout) {
  return fill<2>(shape, layout, seed_, next_stream(), [std](const Philox4x32& words) {
    std::array<float, 2> v{};
    for (std::size_t i = 0; i < 2; ++i) {
      const double u1 = (static_cast<double>(words.v[2 * i]) + 1.0) * 0x1p-32;
      const double u2 = static_cast<double>(words.v[2 * i + 1]) * 0x1p-32;
      v[i] = static_cast<float>(std * std::sqrt(-2.0 * std::log(u1)) * std::cos(2.0 * std::numbers::pi * u2));
    }
    return v;
  });
}

Tensor Initializer::constant(const Shape& shape, double value) {
  next_stream();
  return full(shape, value);
}

}  // namespace cairn::nn
