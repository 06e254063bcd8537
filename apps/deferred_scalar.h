#pragma once
#include <optional>

#include "engine/tensor.h"

namespace cairn::app {

/// Reads a number that a step left on the device one step later, so that the host never waits for the step
/// it has just queued: a copy to pinned memory and an event follow the step, the next step collects them.
class DeferredScalar {
 public:
  explicit DeferredScalar(Device device);
  ~DeferredScalar();
  DeferredScalar(const DeferredScalar&) = delete;
  DeferredScalar& operator=(const DeferredScalar&) = delete;

  /// Queues the copy of `value` ([1] fp32) and returns the one handed in before, waiting for that alone;
  /// nothing at the first call.
  std::optional<float> exchange(const Tensor& value);
  /// The last one handed in, waiting for it; nothing if there is none.
  std::optional<float> take();

 private:
  struct Slot {
    float* host = nullptr;  // pinned
    void* event = nullptr;
    Tensor source;  // kept alive until the copy is done; defined while one is under way
  };
  std::optional<float> collect(Slot& slot);
  Device device_;
  Slot slots_[2];
  int current_ = 0;
};

}  // namespace cairn::app
