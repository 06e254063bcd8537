#pragma once
#include <cstdint>
#include <vector>

#include "engine/nn/module.h"
#include "engine/tensor.h"

namespace cairn::optim {

/// Packs fp32 tensors of one device into one flat buffer, of which they become 64-byte aligned slices, the
/// gaps between them zero: whoever holds them reads and writes the buffer from then on. Undefined for none.
Tensor pack(const std::vector<Tensor>& tensors);

/// All parameters of a module that want a gradient, packed into one flat fp32 buffer, and their gradients
/// into another, so that an optimiser step, a norm or an all-reduce is one pass. The module's tensors become
/// slices of the buffers: 64-byte aligned, the gaps between them zero. Move the module to its device first;
/// the module must not be moved afterwards.
class FlatParameters {
 public:
  explicit FlatParameters(nn::Module& module);
  FlatParameters(const FlatParameters&) = delete;
  FlatParameters& operator=(const FlatParameters&) = delete;

  const Tensor& values() const { return values_; }  // [n] fp32
  const Tensor& grads() const { return grads_; }    // [n] fp32
  Device device() const { return values_.device(); }
  struct Slice {
    nn::NamedTensor parameter;
    std::int64_t offset = 0;  // in elements
    float lr_scale = 1;       // the learning rate's factor for this parameter
  };
  const std::vector<Slice>& slices() const { return slices_; }
  /// What the module keeps beside its parameters, as it is: batch norm's running statistics.
  const std::vector<nn::NamedTensor>& buffers() const { return buffers_; }
  /// Call before the optimiser is made. `factor` >= 0, else InputError.
  void set_lr_scale(std::size_t slice, float factor);
  /// A stretch of the flat buffers whose parameters have one lr_scale.
  struct Group {
    std::int64_t offset = 0, numel = 0;  // in elements
    float lr_scale = 1;
  };
  std::vector<Group> groups() const;

  /// The next backward pass assigns.
  void zero_grad();
  /// Clears the slices of parameters that no gradient reached since zero_grad(): whatever an earlier step
  /// left there would be used again. Call between backward() and whatever reads grads().
  void clear_unused_grads();

 private:
  std::vector<Slice> slices_;
  std::vector<nn::NamedTensor> buffers_;
  Tensor values_;
  Tensor grads_;
};

}  // namespace cairn::optim
