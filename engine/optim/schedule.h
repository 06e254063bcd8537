#pragma once
#include <cstdint>
#include <string_view>

namespace cairn::optim {

enum class ScheduleKind : std::uint8_t { constant, step, cosine };
ScheduleKind parse_schedule(std::string_view name);  // "constant", "step", "cosine"; throws InputError

/// Learning rate by step, counted from 0 over the whole run.
struct Schedule {
  ScheduleKind kind = ScheduleKind::constant;
  float base_lr = 1e-3f;
  std::int64_t warmup_steps = 0;  // linear: base_lr * (step + 1) / warmup_steps
  std::int64_t total_steps = 1;   // cosine reaches 0 here
  std::int64_t decay_every = 1;   // step: multiplied by gamma after each so many steps behind the warm-up
  float gamma = 0.1f;

  /// cosine (Loshchilov & Hutter 2017, one cycle to 0): base_lr * (1 + cos(pi t)) / 2, t the share of the
  /// steps behind the warm-up.
  float lr(std::int64_t step) const;
};

}  // namespace cairn::optim
