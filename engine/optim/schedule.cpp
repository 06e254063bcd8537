#include "engine/optim/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>

#include "kernels/error.h"

namespace cairn::optim {

ScheduleKind parse_schedule(std::string_view name) {
  if (name == "constant") return ScheduleKind::constant;
  if (name == "step") return ScheduleKind::step;
  if (name == "cosine") return ScheduleKind::cosine;
  throw InputError("unknown schedule '" + std::string(name) + "'; there are constant, step, cosine");
}

float Schedule::lr(std::int64_t at) const {
  const auto base = static_cast<double>(base_lr);
  if (at < warmup_steps)
    return static_cast<float>(base * static_cast<double>(at + 1) / static_cast<double>(warmup_steps));
  const std::int64_t behind = at - warmup_steps;
  double factor = 1.0;
  if (kind == ScheduleKind::cosine) {
    const std::int64_t length = std::max<std::int64_t>(total_steps - warmup_steps, 1);
    const double t = std::min(1.0, static_cast<double>(behind) / static_cast<double>(length));
    factor = 0.5 * (1.0 + std::cos(std::numbers::pi * t));
  } else if (kind == ScheduleKind::step) {
    const std::int64_t decays = behind / std::max<std::int64_t>(decay_every, 1);
    factor = std::pow(static_cast<double>(gamma), static_cast<double>(decays));
  }
  return static_cast<float>(base * factor);
}

}  // namespace cairn::optim
