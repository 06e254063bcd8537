#pragma once
#include <span>
#include <string_view>

#include "kernels/batch_norm.h"

/// Batch norm with ReLU, training form, fp32 [N,H,W,C], from the first thing one would write to the product's
/// kernel: docs/ladder.md walks up. Each rung computes the same function; none is used by the engine but the
/// last, which is the engine's own slot.
namespace cairn::bench {

struct Rung {
  std::string_view name;
  std::string_view change;  // against the rung before
  /// Reads x, gamma, beta, eps; writes y, mean, inv_std. `scratch`: scratch_bytes(channels) of memory.
  kernels::Status (*run)(const kernels::Queue& queue, const kernels::BatchNormForward& args);
};
inline constexpr std::int64_t kMostSplits = 512;  // blocks or threads that share the rows
inline constexpr std::size_t scratch_bytes(std::int64_t channels) {
  return static_cast<std::size_t>(2 * kMostSplits * channels) * sizeof(double);
}

std::span<const Rung> cpu_rungs();
/// Empty in a build without a CUDA device.
std::span<const Rung> cuda_rungs();

/// The last rung of both.
inline kernels::Status product(const kernels::Queue& queue, const kernels::BatchNormForward& args) {
  return kernels::batch_norm_forward(queue, args);
}

}  // namespace cairn::bench
