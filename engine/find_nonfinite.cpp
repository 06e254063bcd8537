#include "engine/find_nonfinite.h"

#include <unordered_map>

#include "engine/layer_names.h"
#include "engine/tape_observer.h"
#include "kernels/optimizer.h"
#include "kernels/pointwise.h"

namespace cairn {
namespace {

bool all_finite(const Tensor& t) {
  if (!t.defined() || t.numel() == 0 || !is_floating(t.dtype())) return true;
  const Tensor flag = zeros({1}, DType::i32, t.device());
  call(kernels::check_finite, t.queue(), {.x = t.view(), .flag = flag.inplace()});
  return flag.to_vector<std::int32_t>()[0] == 0;
}

/// Notes the first op whose output, or whose inputs' gradients, are not finite.
class Finder : public TapeObserver {
 public:
  explicit Finder(const nn::Module& module) : names_(module) {}
  const std::string& where() const { return where_; }

  void recorded(const char* op, const Tensor& y, std::span<const Tensor> inputs, const Node* node) override {
    if (!grad_enabled()) return;  // within an op's backward
    std::string layer = names_.name(op, inputs);
    if (where_.empty()) {
      // What recorded nothing itself (frozen layers, pixels) shows in what goes into the next op.
      for (const Tensor& t : inputs)
        if (t.defined() && !t.requires_grad() && names_.tensor_name(t.impl().get()).empty() && !all_finite(t))
          where_ = "the input of " + layer + ", forward";
      if (where_.empty() && !all_finite(y)) where_ = layer + ", forward";
    }
    if (node) layers_[node] = std::move(layer);
  }
  void before_backward(const Node&) override {}
  void after_backward(const Node& node) override {
    if (!where_.empty()) return;
    for (const Node::Input& in : node.inputs) {
      const Tensor grad = in.leaf ? in.leaf->grad : in.producer ? in.producer->grad : Tensor();
      if (all_finite(grad)) continue;
      where_ = layers_[&node] + ", backward";
      return;
    }
  }

 private:
  LayerNames names_;
  std::unordered_map<const Node*, std::string> layers_;
  std::string where_;
};

}  // namespace

Nonfinite find_nonfinite(nn::Module& module, const std::function<Tensor()>& loss, const Tensor& scale) {
  for (const nn::NamedTensor& t : module.named_tensors())
    if (!all_finite(t.tensor)) return {t.name + (t.is_buffer ? ", a buffer" : ", a parameter"), true};
  for (const nn::NamedTensor& t : module.named_parameters()) Tensor(t.tensor).zero_grad();
  Finder finder(module);
  const Tensor value = loss();
  if (finder.where().empty()) value.backward(scale);
  return {finder.where(), false};
}

}  // namespace cairn
