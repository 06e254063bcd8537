#include "engine/layer_names.h"

namespace cairn {

LayerNames::LayerNames(const nn::Module& module) {
  for (const nn::NamedTensor& t : module.named_tensors()) {
    tensors_[t.tensor.impl().get()] = t.name;
    const std::size_t dot = t.name.rfind('.');
    layers_[t.tensor.impl().get()] = dot == std::string::npos ? t.name : t.name.substr(0, dot);
  }
}

std::string LayerNames::name(const char* op, std::span<const Tensor> inputs) {
  for (const Tensor& t : inputs)
    if (const auto found = layers_.find(t.impl().get()); found != layers_.end()) return last_ = found->second;
  return last_.empty() ? op : std::string(op) + " behind " + last_;
}

std::string LayerNames::tensor_name(const TensorImpl* tensor) const {
  const auto found = tensors_.find(tensor);
  return found == tensors_.end() ? std::string() : found->second;
}

}  // namespace cairn
