#include "apps/deferred_scalar.h"

#include "engine/device.h"
#include "kernels/device.h"

namespace cairn::app {

DeferredScalar::DeferredScalar(Device device) : device_(device) {
  const kernels::DeviceApi& api = *kernels::device_api(device_.type);
  for (Slot& slot : slots_) {
    void* memory = nullptr;
    check(api.allocate_host(sizeof(float), &memory));
    slot.host = static_cast<float*>(memory);
    check(api.create_event(device_.index, slot.event));
  }
}

DeferredScalar::~DeferredScalar() {
  const kernels::DeviceApi& api = *kernels::device_api(device_.type);
  for (Slot& slot : slots_) {
    // A copy may still be under way into the memory; what fails here has nobody left to tell.
    if (slot.source.defined()) static_cast<void>(api.host_wait_event(slot.event).ok());
    static_cast<void>(api.destroy_event(slot.event).ok());
    static_cast<void>(api.release_host(slot.host).ok());
  }
}

std::optional<float> DeferredScalar::exchange(const Tensor& value) {
  const kernels::DeviceApi& api = *kernels::device_api(device_.type);
  Slot& slot = slots_[current_];
  slot.source = value;
  check(api.copy(value.queue(), slot.host, value.view().data, sizeof(float),
                 kernels::CopyKind::device_to_host));
  check(api.record_event(value.queue(), slot.event));
  current_ = 1 - current_;
  return collect(slots_[current_]);
}

std::optional<float> DeferredScalar::take() { return collect(slots_[1 - current_]); }

std::optional<float> DeferredScalar::collect(Slot& slot) {
  if (!slot.source.defined()) return {};
  check(kernels::device_api(device_.type)->host_wait_event(slot.event));
  slot.source = {};
  return *slot.host;
}

}  // namespace cairn::app
