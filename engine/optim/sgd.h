#pragma once
#include <vector>

#include "engine/optim/optimizer.h"

namespace cairn::optim {

/// torch.optim.SGD without dampening; see kernels/optimizer.h for the equations.
class Sgd final : public Optimizer {
 public:
  Sgd(FlatParameters& parameters, const OptimizerOptions& options);
  std::vector<nn::NamedTensor> state() const override;

 protected:
  void update(const kernels::StepScalars* scalars) override;

 private:
  Tensor momentum_buffer_;  // undefined without momentum
};

}  // namespace cairn::optim
