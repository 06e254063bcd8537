#pragma once
#include <span>

#include "engine/autograd.h"

namespace cairn {

/// Looks on while ops are recorded and run backward in this thread: for what has to be said by layer (memory,
/// values that are no numbers).
class TapeObserver {
 public:
  TapeObserver();
  /// The one before looks on again.
  virtual ~TapeObserver();
  TapeObserver(const TapeObserver&) = delete;
  TapeObserver& operator=(const TapeObserver&) = delete;

  /// y = op(inputs) has been computed; undefined inputs are absent ones. `node`: its place on the tape, null
  /// where no input wants a gradient.
  virtual void recorded(const char* op, const Tensor& y, std::span<const Tensor> inputs,
                        const Node* node) = 0;
  /// The node's backward is about to run. Its output's gradient is node.grad.
  virtual void before_backward(const Node& node) = 0;
  /// It has run: what it wrote is in the gradients of its inputs' producers and leaves.
  virtual void after_backward(const Node& node) = 0;

  static TapeObserver* current();

 private:
  TapeObserver* before_;
};

}  // namespace cairn
