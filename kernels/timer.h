#pragma once
#include <cstddef>

#include "kernels/dispatch.h"

namespace cairn::kernels {

/// What a benchmark needs of a device beside DeviceApi: events that carry a time stamp, and how much of the
/// memory is cached. A backend registers one where its clock is not the host's.
struct TimerApi {
  /// Recorded, waited for and destroyed as DeviceApi's events are.
  Status (*create_event)(int index, void*& event);
  /// Between two events that are done, on the device's own clock.
  Status (*elapsed_us)(void* begin, void* end, double& us);
  /// Bytes of the last cache before memory.
  Status (*cache_bytes)(int index, std::size_t& bytes);
};

namespace detail {
inline constinit const TimerApi* timer_apis[kDeviceTypeCount] = {};
}
/// Null where the host's clock serves, as on the CPU.
inline const TimerApi* timer_api(DeviceType type) { return detail::timer_apis[static_cast<int>(type)]; }
inline void register_timer_api(DeviceType type, const TimerApi* api) {
  detail::timer_apis[static_cast<int>(type)] = api;
}

}  // namespace cairn::kernels
