#pragma once
/// What a channel's sums say, the same for batch norm of one process and of several.
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace cairn::kernels {

/// Mean and biased variance of `count` values from their sum and their squares' sum, which fp64 holds well
/// enough to subtract. A NaN stays one.
struct Moments {
  __device__ Moments(double sum, double squares, double n) : count(n), mean(sum / n) {
    const double spread = squares / n - mean * mean;
    var = spread > 0 ? spread : (spread == spread ? 0 : spread);
  }
  double count, mean, var;
};

/// running = (1 - momentum) * running + momentum * the batch's, with the unbiased variance.
template <class C>
struct RunningStatistics {
  C *mean, *var;  // [C], or null
  double momentum;
  __device__ void update(int64_t c, const Moments& m) const {
    land(mean, c, m.mean);
    land(var, c, m.var * m.count / (m.count > 1 ? m.count - 1 : 1));
  }

 private:
  __device__ void land(C* running, int64_t c, double value) const {
    if (running)
      running[c] = static_cast<C>((1 - momentum) * static_cast<double>(running[c]) + momentum * value);
  }
};

}  // namespace cairn::kernels
