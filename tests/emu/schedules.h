#pragma once
#include <cstdint>

#include "kernels/emu/emu.h"

namespace cairn {

/// Random schedules of queued work that a test tries: checked kernels take ten times as long, and their
/// checks do not depend on what order happened to come.
inline std::uint64_t schedules() { return emu::checked() ? 3 : 40; }

}  // namespace cairn
