// The loss scale of the next step; kernels/loss_scale.h has the rule. One thread, 40 bytes: what it costs is
// the launch. Read and written where the optimiser's kernels read it, so that a captured graph replays.
#include "kernels/loss_scale.h"

#include <cmath>

#include "kernels/cuda/fill.h"

namespace cairn::kernels {
namespace {

__device__ float bias_correction(float beta, int32_t steps) {
  return static_cast<float>(1.0 - std::pow(static_cast<double>(beta), static_cast<double>(steps)));
}

__global__ void update_loss_scale_kernel(float* scale, int32_t* counters, const int32_t* nonfinite,
                                         StepScalars* scalars, int growth_interval, float beta1,
                                         float beta2) {
  const float used = *scale;
  const int32_t skipped = counters[1];
  scalars->grad_scale /= used;
  if (*nonfinite != 0) {
    *scale = fmaxf(used * 0.5f, kSmallestLossScale);
    counters[0] = 0;
    counters[1] = skipped + 1;
    return;
  }
  if (skipped > 0) {
    scalars->bias_correction1 = bias_correction(beta1, scalars->step - skipped);
    scalars->bias_correction2 = bias_correction(beta2, scalars->step - skipped);
  }
  const int32_t good = counters[0] + 1;
  counters[0] = good < growth_interval ? good : 0;
  if (good >= growth_interval) *scale = fminf(used * 2, kLargestLossScale);
}

Status update_loss_scale_cuda(const Queue& q, const UpdateLossScale& a) {
  return launch(&update_loss_scale_kernel, dim3(1), dim3(1), 0, stream_of(q), a.scale.as<float>(),
                a.counters.as<int32_t>(), a.nonfinite.as<int32_t>(), a.scalars, a.growth_interval, a.beta1,
                a.beta2);
}

const FillCuda kFill{update_loss_scale, &update_loss_scale_cuda, nullptr, {DType::f32}};

}  // namespace
}  // namespace cairn::kernels
