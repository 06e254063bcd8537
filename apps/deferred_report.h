#pragma once
#include <optional>

#include "engine/tensor.h"
#include "kernels/step_guard.h"

namespace cairn::app {

/// Reads what a step reported on the device one step later, so that the host never waits for the step it has
/// just queued: a copy to pinned memory and an event follow the step, the next step collects them.
class DeferredReport {
 public:
  explicit DeferredReport(Device device);
  ~DeferredReport();
  DeferredReport(const DeferredReport&) = delete;
  DeferredReport& operator=(const DeferredReport&) = delete;

  /// Queues the copy of `report` (optim::StepGuard's) and returns the one handed in before, waiting for that
  /// alone; nothing at the first call.
  std::optional<kernels::StepReport> exchange(const Tensor& report);
  /// The last one handed in, waiting for it; nothing if there is none.
  std::optional<kernels::StepReport> take();

 private:
  struct Slot {
    kernels::StepReport* host = nullptr;  // pinned
    void* event = nullptr;
    Tensor source;  // kept alive until the copy is done; defined while one is under way
  };
  std::optional<kernels::StepReport> collect(Slot& slot);
  Device device_;
  Slot slots_[2];
  int current_ = 0;
};

}  // namespace cairn::app
