#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/ops.h"
#include "engine/tensor.h"

namespace cairn::nn {

/// A parameter or buffer under the name that PyTorch's state dict would give it. `layout` says how the
/// engine's order differs from the file's: files hold PyTorch's, the engine its own; io/ converts.
enum class Layout : std::uint8_t {
  plain,   // the same in both
  filter,  // engine [K,R,S,C] <-> file [K,C,R,S]
};
struct NamedTensor {
  std::string name;
  Tensor tensor;
  bool is_buffer = false;  // saved, not trained
  Layout layout = Layout::plain;
};

/// Where a model's random numbers come from: dropout's masks are drawn from (seed, layer, step, element).
struct RandomState {
  std::uint64_t seed = 0;
  Tensor step;                   // [1] int64 on the model's device, counted up by the training loop
  std::int64_t first_image = 0;  // index of this process' first image in the global batch
};

/// A layer or model: named parameters, buffers and children, training or evaluation mode. Derive, register in
/// the constructor, write forward().
class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  virtual Tensor forward(const Tensor& x) = 0;
  /// forward(), under the module's name in a profiler.
  Tensor operator()(const Tensor& x);

  /// Depth first, in order of registration, names joined with '.': "layer1.0.conv1.weight".
  std::vector<NamedTensor> named_tensors() const;
  std::vector<NamedTensor> named_parameters() const;
  std::vector<NamedTensor> named_buffers() const;
  void train(bool on = true);
  void eval() { train(false); }
  bool training() const { return training_; }
  /// Calls of train() and eval() so far. What was computed from parameters in evaluation mode, and kept, is
  /// to be computed anew once this has changed: a replayed graph changes parameters without counting their
  /// versions.
  std::uint64_t mode_changes() const { return mode_changes_; }
  /// Moves all tensors. Call before an optimiser or flat buffers are bound.
  void to(Device device);
  /// Gives every stochastic layer its own stream, in order.
  void set_random_state(const RandomState& state);
  /// Calls f(name, module) for this module and all below it, depth first.
  void apply(const std::function<void(const std::string&, Module&)>& f, const std::string& prefix = {});

 protected:
  /// The returned reference stays valid; the tensor inside may be replaced by to().
  Tensor& register_parameter(std::string name, Tensor value, Layout layout = Layout::plain);
  Tensor& register_buffer(std::string name, Tensor value);
  template <class M>
  M& register_module(std::string name, std::unique_ptr<M> module) {
    M& ref = *module;
    static_cast<Module&>(ref).name_ = name;
    children_.emplace_back(std::move(name), std::move(module));
    return ref;
  }
  template <class M, class... A>
  M& make(std::string name, A&&... args) {
    return register_module(std::move(name), std::make_unique<M>(std::forward<A>(args)...));
  }
  /// A stochastic layer overrides this to take its stream.
  virtual void on_random_state(const RandomState&, std::uint64_t /*stream*/) {}

 private:
  void collect(const std::string& prefix, std::vector<NamedTensor>& out) const;
  struct Entry {
    std::string name;
    Tensor tensor;
    bool is_buffer;
    Layout layout;
  };
  std::vector<std::unique_ptr<Entry>> tensors_;
  std::vector<std::pair<std::string, std::unique_ptr<Module>>> children_;
  std::string name_ = "model";  // in its parent
  bool training_ = true;
  std::uint64_t mode_changes_ = 0;
};

}  // namespace cairn::nn
