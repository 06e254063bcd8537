#pragma once
#include "kernels/device.h"

namespace cairn {

/// Gives what the host queues during its life a name in a profiler's timeline (NVTX: `nsys profile`). Costs a
/// look at a pointer where the device's backend has no ranges. A captured graph is named where it is
/// captured; its replay is one launch.
class ProfileRange {
 public:
  ProfileRange(Device device, const char* name) : api_(kernels::device_api(device.type)) {
    if (api_ && api_->push_range)
      api_->push_range(name);
    else
      api_ = nullptr;
  }
  ~ProfileRange() {
    if (api_) api_->pop_range();
  }
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;

 private:
  const kernels::DeviceApi* api_;
};

}  // namespace cairn
