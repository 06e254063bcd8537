#pragma once
#include <span>
#include <string>
#include <unordered_map>

#include "engine/nn/module.h"

namespace cairn {

/// Which layer of a module an op on the tape belongs to, told by the parameters that it reads:
/// "layer1.0.bn2". An op without parameters is named for itself and the layer before it: "max_pool2d behind
/// bn1".
class LayerNames {
 public:
  explicit LayerNames(const nn::Module& module);
  /// To be asked in the order in which the ops are recorded.
  std::string name(const char* op, std::span<const Tensor> inputs);
  /// The parameter or buffer itself; empty for another tensor.
  std::string tensor_name(const TensorImpl* tensor) const;

 private:
  std::unordered_map<const TensorImpl*, std::string> tensors_;
  std::unordered_map<const TensorImpl*, std::string> layers_;
  std::string last_;  // layer with parameters
};

}  // namespace cairn
