#include "engine/nn/module.h"

#include <algorithm>

#include "engine/profile_range.h"
#include "kernels/philox.h"

namespace cairn::nn {
namespace {

std::string join(const std::string& prefix, const std::string& name) {
  return prefix.empty() ? name : prefix + '.' + name;
}

std::vector<NamedTensor> only(std::vector<NamedTensor> all, bool buffers) {
  std::erase_if(all, [&](const NamedTensor& t) { return t.is_buffer != buffers; });
  return all;
}

}  // namespace

Tensor Module::operator()(const Tensor& x) {
  const ProfileRange range(x.device(), name_.c_str());
  return forward(x);
}

void Module::collect(const std::string& prefix, std::vector<NamedTensor>& out) const {
  for (const auto& e : tensors_) out.push_back({join(prefix, e->name), e->tensor, e->is_buffer, e->layout});
  for (const auto& [name, child] : children_) child->collect(join(prefix, name), out);
}

std::vector<NamedTensor> Module::named_tensors() const {
  std::vector<NamedTensor> all;
  collect({}, all);
  return all;
}
std::vector<NamedTensor> Module::named_parameters() const { return only(named_tensors(), false); }
std::vector<NamedTensor> Module::named_buffers() const { return only(named_tensors(), true); }

void Module::train(bool on) {
  training_ = on;
  ++mode_changes_;
  for (const auto& [name, child] : children_) child->train(on);
}

void Module::to(Device device) {
  for (const auto& e : tensors_) {
    const bool wanted_grad = e->tensor.requires_grad();
    e->tensor = e->tensor.to(device);
    if (wanted_grad) e->tensor.set_requires_grad();
  }
  for (const auto& [name, child] : children_) child->to(device);
}

void Module::set_random_state(const RandomState& state) {
  std::uint64_t ordinal = 0;
  apply([&](const std::string&, Module& m) {
    m.on_random_state(state, philox_stream(kStreamDropout, ordinal++));
  });
}

void Module::apply(const std::function<void(const std::string&, Module&)>& f, const std::string& prefix) {
  f(prefix, *this);
  for (const auto& [name, child] : children_) child->apply(f, join(prefix, name));
}

Tensor& Module::register_parameter(std::string name, Tensor value, Layout layout) {
  value.set_requires_grad();
  tensors_.push_back(
      std::make_unique<Entry>(Entry{std::move(name), std::move(value), /*is_buffer=*/false, layout}));
  return tensors_.back()->tensor;
}

Tensor& Module::register_buffer(std::string name, Tensor value) {
  tensors_.push_back(
      std::make_unique<Entry>(Entry{std::move(name), std::move(value), /*is_buffer=*/true, Layout::plain}));
  return tensors_.back()->tensor;
}

}  // namespace cairn::nn
