#pragma once
#include <functional>

#include "engine/tensor.h"

namespace cairn {

/// While one lives, backward() on this thread calls `whole` with each leaf as soon as no op of the tape will
/// add to its gradient any more: in an order that depends on the tape alone. A leaf that no gradient reached
/// may be among them.
class GradientHook {
 public:
  explicit GradientHook(std::function<void(const TensorImpl& leaf)> whole);
  ~GradientHook();
  GradientHook(const GradientHook&) = delete;
  GradientHook& operator=(const GradientHook&) = delete;

 private:
  std::function<void(const TensorImpl&)> whole_;
};

}  // namespace cairn
