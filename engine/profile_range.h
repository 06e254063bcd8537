#pragma once
#include "engine/profiler.h"
#include "kernels/device.h"

namespace cairn {

/// Gives what the host queues during its life a name: in a recording of engine/profiler.h, and in the
/// timeline of the device's own profiler (NVTX: `nsys profile`). Costs a look at a flag and a pointer where
/// there is neither. A captured graph is named where it is captured; its replay is one launch.
class ProfileRange {
 public:
  ProfileRange(Device device, const char* name) : ProfileRange(device, name, name) {}
  /// `recorded`: the name in the recording.
  ProfileRange(Device device, const char* name, const char* recorded)
      : api_(kernels::device_api(device.type)), recorded_(profiler::on()) {
    if (recorded_) profiler::push(recorded);
    if (api_ && api_->push_range)
      api_->push_range(name);
    else
      api_ = nullptr;
  }
  ~ProfileRange() {
    if (api_) api_->pop_range();
    if (recorded_) profiler::pop();
  }
  ProfileRange(const ProfileRange&) = delete;
  ProfileRange& operator=(const ProfileRange&) = delete;

 private:
  const kernels::DeviceApi* api_;
  bool recorded_;
};

}  // namespace cairn
