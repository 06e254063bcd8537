#pragma once
#include <functional>
#include <string>

#include "engine/nn/module.h"

namespace cairn {

struct Nonfinite {
  /// "layer2.0.conv1, forward"; "fc, backward"; "fc.weight, a parameter"; empty where all values are finite.
  std::string where;
  bool in_module = false;  // a parameter or buffer was not finite before the step began
};

/// Runs a step of training once more, without the optimiser, and names the first layer and pass where a value
/// appears that is no number. `loss` computes it from the module; gradients begin with `scale` ([1] fp32;
/// undefined: 1). Overwrites gradients and, as every forward pass, running statistics.
Nonfinite find_nonfinite(nn::Module& module, const std::function<Tensor()>& loss, const Tensor& scale);

}  // namespace cairn
