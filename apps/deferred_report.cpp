#include "apps/deferred_report.h"

#include "engine/device.h"
#include "kernels/device.h"

namespace cairn::app {

DeferredReport::DeferredReport(Device device) : device_(device) {
  const kernels::DeviceApi& api = *kernels::device_api(device_.type);
  for (Slot& slot : slots_) {
    void* memory = nullptr;
    check(api.allocate_host(sizeof(kernels::StepReport), &memory));
    slot.host = static_cast<kernels::StepReport*>(memory);
    check(api.create_event(device_.index, slot.event));
  }
}

DeferredReport::~DeferredReport() {
  const kernels::DeviceApi& api = *kernels::device_api(device_.type);
  for (Slot& slot : slots_) {
    // A copy may still be under way into the memory; what fails here has nobody left to tell.
    if (slot.source.defined()) static_cast<void>(api.host_wait_event(slot.event).ok());
    static_cast<void>(api.destroy_event(slot.event).ok());
    static_cast<void>(api.release_host(slot.host).ok());
  }
}

std::optional<kernels::StepReport> DeferredReport::exchange(const Tensor& report) {
  const kernels::DeviceApi& api = *kernels::device_api(device_.type);
  Slot& slot = slots_[current_];
  slot.source = report;
  check(api.copy(report.queue(), slot.host, report.view().data, sizeof *slot.host,
                 kernels::CopyKind::device_to_host));
  check(api.record_event(report.queue(), slot.event));
  current_ = 1 - current_;
  return collect(slots_[current_]);
}

std::optional<kernels::StepReport> DeferredReport::take() { return collect(slots_[1 - current_]); }

std::optional<kernels::StepReport> DeferredReport::collect(Slot& slot) {
  if (!slot.source.defined()) return {};
  check(kernels::device_api(device_.type)->host_wait_event(slot.event));
  slot.source = {};
  return *slot.host;
}

}  // namespace cairn::app
