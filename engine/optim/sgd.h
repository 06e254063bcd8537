#pragma once
#include <vector>

#include "engine/optim/optimizer.h"

namespace cairn::optim {

/// torch.optim.SGD without dampening; see kernels/optimizer.h for the equations.
class Sgd final : public Optimizer {
 public:
  Sgd(FlatParameters& parameters, const OptimizerOptions& options);

 protected:
  void update(const FlatParameters::Group& group, const kernels::StepScalars* scalars) override;
  std::vector<nn::NamedTensor> moments() const override;

 private:
  Tensor momentum_buffer_;  // undefined without momentum
};

}  // namespace cairn::optim
