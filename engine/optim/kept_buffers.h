#pragma once
#include <vector>

#include "engine/nn/module.h"
#include "engine/tensor.h"

namespace cairn::optim {

/// The values that a module's buffers (batch norm's running statistics) had after the last step that was
/// taken: a forward pass changes them before anybody knows what becomes of its step.
class KeptBuffers {
 public:
  /// Keeps the fp32 ones of `buffers` as they are now; all on `device`.
  KeptBuffers(const std::vector<nn::NamedTensor>& buffers, Device device);

  /// The buffers' values are from now on those to return to: after they were changed by hand.
  void accept() const;
  /// Gives the buffers the kept values back.
  void restore() const;
  /// accept() where `nonfinite` ([1] int32 on the device) is 0, else restore(). One kernel.
  void commit(const Tensor& nonfinite) const;

 private:
  std::vector<Tensor> values_;
  Tensor kept_;   // [n] fp32: one behind the other
  Tensor table_;  // of kernels::KeptBuffer, as bytes on the device
  std::int64_t largest_ = 0;
};

}  // namespace cairn::optim
