#include "engine/optim/parameters.h"

#include <cmath>

#include "engine/autograd.h"
#include "kernels/error.h"
#include "kernels/pointwise.h"

namespace cairn::optim {
namespace {

constexpr std::int64_t kAlign = 16;  // floats: 64 bytes, a cache line and an AVX-512 vector

std::int64_t aligned(std::int64_t n) { return (n + kAlign - 1) / kAlign * kAlign; }

// The tensor, for all who hold it, becomes the slice of `flat` at `offset`, with its values.
void move_into(const Tensor& t, const Tensor& flat, std::int64_t offset) {
  const Tensor slice = flat.alias(t.shape(), offset);
  call(kernels::cast, t.queue(), {t.view(), slice.out()});
  t.impl()->storage = slice.impl()->storage;
  t.impl()->offset_bytes = slice.impl()->offset_bytes;
}

}  // namespace

Tensor pack(const std::vector<Tensor>& tensors) {
  if (tensors.empty()) return {};
  std::int64_t total = 0;
  for (const Tensor& t : tensors) total += aligned(t.numel());
  const Tensor flat = zeros({total}, DType::f32, tensors[0].device());
  std::int64_t offset = 0;
  for (const Tensor& t : tensors) {
    move_into(t, flat, offset);
    offset += aligned(t.numel());
  }
  return flat;
}

FlatParameters::FlatParameters(nn::Module& module) : buffers_(module.named_buffers()) {
  std::int64_t total = 0;
  for (nn::NamedTensor& p : module.named_parameters()) {
    if (!p.tensor.requires_grad()) continue;
    if (p.tensor.dtype() != DType::f32)
      throw DTypeError("FlatParameters: " + p.name + " is " + name_of(p.tensor.dtype()) + ", expected fp32");
    slices_.push_back({std::move(p), total});
    total += aligned(slices_.back().parameter.tensor.numel());
  }
  if (slices_.empty()) throw Error("FlatParameters: the module has no parameter that wants a gradient");
  const Device device = slices_[0].parameter.tensor.device();
  values_ = empty({total}, DType::f32, device);
  grads_ = empty({total}, DType::f32, device);  // a step assigns, or clear_unused_grads() does
  for (Slice& s : slices_) {
    Tensor& p = s.parameter.tensor;
    if (p.device() != device)
      throw Error("FlatParameters: " + s.parameter.name + " is on " + to_string(p.device()) + ", others on " +
                  to_string(device) + "; move the whole module");
    // The handle is shared with the module, which from here on reads and trains the slice.
    move_into(p, values_, s.offset);
    p.bind_grad(grads_.alias(p.shape(), s.offset));
    const std::int64_t end = s.offset + p.numel(), gap = aligned(p.numel()) - p.numel();
    if (gap == 0) continue;
    for (const Tensor& flat : {values_, grads_})
      call(kernels::fill_value, p.queue(), {flat.alias({gap}, end).inplace(), 0.0});
  }
}

void FlatParameters::set_lr_scale(std::size_t slice, float factor) {
  Slice& s = slices_.at(slice);
  if (!(factor >= 0 && std::isfinite(factor)))
    throw InputError("the learning rate's factor for " + s.parameter.name + " is " + std::to_string(factor) +
                     ", expected 0 or more");
  s.lr_scale = factor;
}

std::vector<FlatParameters::Group> FlatParameters::groups() const {
  std::vector<Group> groups;
  for (const Slice& s : slices_) {
    if (groups.empty() || groups.back().lr_scale != s.lr_scale)
      groups.push_back({.offset = s.offset, .numel = 0, .lr_scale = s.lr_scale});
    groups.back().numel = s.offset + aligned(s.parameter.tensor.numel()) - groups.back().offset;
  }
  return groups;
}

void FlatParameters::zero_grad() {
  for (Slice& s : slices_) s.parameter.tensor.zero_grad();
}

void FlatParameters::clear_unused_grads() {
  for (const Slice& s : slices_) {
    const Tensor& p = s.parameter.tensor;
    if (!p.grad().defined()) call(kernels::fill_value, p.queue(), {p.grad_buffer().inplace(), 0.0});
  }
}

}  // namespace cairn::optim
