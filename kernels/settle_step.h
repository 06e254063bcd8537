#pragma once
/// The rule of kernels/step_guard.h's settle_step, once for the CPU and for CUDA devices: one thread runs it.
#include <cmath>
#include <cstdint>

#include "kernels/philox.h"  // CAIRN_HOST_DEVICE
#include "kernels/step_guard.h"

namespace cairn::kernels {

/// SettleStep's memory.
struct StepToSettle {
  const float* loss;        // [1] or null
  std::int32_t* nonfinite;  // [1]
  std::int32_t* counters;   // [3]
  float* scale;             // [1] or null
  StepScalars* scalars;
  StepReport* report;
  bool hold;
  int growth_interval;
  float beta1, beta2;
};

inline StepToSettle memory_of(const SettleStep& a) {
  return {a.loss.as<float>(),
          a.nonfinite.as<std::int32_t>(),
          a.counters.as<std::int32_t>(),
          a.scale.as<float>(),
          a.scalars,
          a.report,
          a.hold,
          a.growth_interval,
          a.beta1,
          a.beta2};
}

CAIRN_HOST_DEVICE inline float bias_correction(float beta, std::int32_t steps) {
  return static_cast<float>(1.0 - std::pow(static_cast<double>(beta), static_cast<double>(steps)));
}

CAIRN_HOST_DEVICE inline void settle(const StepToSettle& s) {
  const float loss = s.loss ? *s.loss : 0.0f;
  const float used = s.scale ? *s.scale : 1.0f;
  const bool good_loss = loss - loss == 0.0f;  // not so for infinities and NaN
  const bool bad = *s.nonfinite != 0 || !good_loss;
  const bool curable = s.scale && good_loss && used > kSmallestLossScale;
  const bool held = s.hold && s.counters[2] != 0;
  const bool hopeless = held || (bad && !curable);
  s.scalars->grad_scale /= used;
  s.report->loss = loss;
  s.report->outcome = hopeless ? StepOutcome::nonfinite : bad ? StepOutcome::overflowed : StepOutcome::taken;
  *s.nonfinite = bad || held;
  if (hopeless && s.hold) {
    s.counters[2] = 1;
    return;
  }
  const std::int32_t skipped = s.counters[1];
  if (bad) {
    s.counters[0] = 0;
    s.counters[1] = skipped + 1;
    if (curable) *s.scale = used * 0.5f;
    return;
  }
  if (skipped > 0) {
    s.scalars->bias_correction1 = bias_correction(s.beta1, s.scalars->step - skipped);
    s.scalars->bias_correction2 = bias_correction(s.beta2, s.scalars->step - skipped);
  }
  if (!s.scale) return;
  const std::int32_t good = s.counters[0] + 1;
  s.counters[0] = good < s.growth_interval ? good : 0;
  if (good >= s.growth_interval && used < kLargestLossScale) *s.scale = used * 2;
}

}  // namespace cairn::kernels
