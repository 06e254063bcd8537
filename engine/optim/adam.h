#pragma once
#include <vector>

#include "engine/optim/optimizer.h"

namespace cairn::optim {

/// Adam (Kingma & Ba 2015) with L2 in the gradient, and AdamW (Loshchilov & Hutter 2019) with decoupled
/// decay, as torch.optim has them; see kernels/optimizer.h for the equations.
class Adam final : public Optimizer {
 public:
  Adam(FlatParameters& parameters, const OptimizerOptions& options);

 protected:
  void fill_scalars(kernels::StepScalars& scalars) const override;
  void update(const FlatParameters::Group& group, const kernels::StepScalars* scalars) override;
  std::vector<nn::NamedTensor> moments() const override;

 private:
  Tensor exp_avg_;
  Tensor exp_avg_sq_;
};

}  // namespace cairn::optim
