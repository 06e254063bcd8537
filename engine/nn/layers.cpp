#include "engine/nn/layers.h"

#include "engine/distributed/sync_batch_norm.h"

#include <algorithm>
#include <atomic>

#include "engine/autograd.h"
#include "kernels/error.h"
#include "kernels/without.h"

namespace cairn::nn {
namespace {

void require_positive(std::int64_t value, const char* layer, const char* what) {
  if (value <= 0)
    throw ShapeError('[' + std::string(layer) + "] " + what + " is " + std::to_string(value) +
                     ", expected at least 1");
}

const Conv2dOptions& checked(const Conv2dOptions& o) {
  require_positive(o.in_channels, "Conv2d", "in_channels");
  require_positive(o.out_channels, "Conv2d", "out_channels");
  require_positive(o.kernel, "Conv2d", "kernel");
  require_positive(o.groups, "Conv2d", "groups");
  if (o.in_channels % o.groups != 0 || o.out_channels % o.groups != 0)
    throw ShapeError("[Conv2d] " + std::to_string(o.in_channels) + " -> " + std::to_string(o.out_channels) +
                     " channels do not divide into " + std::to_string(o.groups) + " groups");
  return o;
}

Tensor filter(Initializer& init, const Conv2dOptions& o) {
  const Shape shape{o.out_channels, o.kernel, o.kernel, o.in_channels / o.groups};
  const std::int64_t area = std::int64_t{o.kernel} * o.kernel;
  if (o.init == WeightInit::kaiming_normal_fan_out)
    return init.normal(shape, kaiming_normal_std(o.out_channels * area), Layout::filter);
  return init.uniform(shape, default_bound(shape[3] * area), Layout::filter);
}

Tensor conv_bias(Initializer& init, const Conv2dOptions& o) {
  return init.uniform({o.out_channels}, default_bound(o.in_channels / o.groups * o.kernel * o.kernel));
}

Conv2dGeometry geometry_of(const Conv2dOptions& o) {
  return {o.stride, o.stride, o.padding, o.padding, o.dilation, o.dilation, o.groups};
}

const LinearOptions& checked(const LinearOptions& o) {
  require_positive(o.in_features, "Linear", "in_features");
  require_positive(o.out_features, "Linear", "out_features");
  return o;
}

Pool2dGeometry square_pool(int kernel, int stride, int padding) {
  const int step = stride > 0 ? stride : kernel;
  return {kernel, kernel, step, step, padding, padding};
}

std::atomic<bool> folding{!kernels::without("folding")};
std::atomic<bool> packing{!kernels::without("packing")};
/// Activations and residual adds inside of the op before them, in one pass; off: ops of their own.
std::atomic<bool> fusion{!kernels::without("fusion")};

Tensor activated(Activation activation, const Tensor& x) {
  return activation == Activation::relu ? relu(x) : x;
}

Tensor or_absent(const Tensor* t) { return t ? *t : Tensor(); }

}  // namespace

Conv2d::Conv2d(Initializer& init, const Conv2dOptions& o)
    : geometry_(geometry_of(o)),
      activation_(o.activation),
      weight_(register_parameter("weight", filter(init, checked(o)), Layout::filter)) {
  if (o.bias) bias_ = &register_parameter("bias", conv_bias(init, o));
}

Tensor Conv2d::forward(const Tensor& x) {
  if (!fusion) return activated(activation_, conv2d(x, weight_, or_absent(bias_), geometry_));
  return conv2d(x, weight_, or_absent(bias_), geometry_, activation_);
}

Linear::Linear(Initializer& init, const LinearOptions& o)
    : activation_(o.activation),
      weight_(register_parameter(
          "weight", init.uniform({checked(o).out_features, o.in_features}, default_bound(o.in_features)))) {
  if (o.bias)
    bias_ = &register_parameter("bias", init.uniform({o.out_features}, default_bound(o.in_features)));
}

Tensor Linear::forward(const Tensor& x) {
  if (!fusion) return activated(activation_, linear(x, weight_, or_absent(bias_)));
  if (packing && !training() && !grad_enabled())
    return linear_packed(
        x, weight_,
        packing_.of(x, weight_, [&] { return pack_linear(x, weight_, or_absent(bias_), activation_); }),
        or_absent(bias_), activation_);
  packing_ = {};  // training has better use for the memory
  return linear(x, weight_, or_absent(bias_), activation_);
}

BatchNorm2d::BatchNorm2d(Initializer& init, std::int64_t channels, float momentum, float eps)
    : momentum_(momentum),
      eps_(eps),
      weight_(register_parameter("weight", init.constant({channels}, 1.0))),
      bias_(register_parameter("bias", init.constant({channels}, 0.0))),
      running_mean_(register_buffer("running_mean", zeros({channels}))),
      running_var_(register_buffer("running_var", full({channels}, 1.0))) {}

Tensor BatchNorm2d::fused(const Tensor& x, const Tensor& residual, Activation activation) {
  if (!fusion && (residual.defined() || activation != Activation::none)) {
    const Tensor y = fused(x, {}, Activation::none);
    return activated(activation, residual.defined() ? add(y, residual) : y);
  }
  if (!training()) return batch_norm_inference(x, tensors(), residual, activation, eps_);
  if (processes_) return sync_batch_norm(x, tensors(), residual, activation, momentum_, eps_, *processes_);
  return batch_norm(x, tensors(), residual, activation, momentum_, eps_);
}

void ConvBatchNorm::set_folding(bool on) { folding = on; }
void ConvBatchNorm::set_packing(bool on) { packing = on; }

void ConvBatchNorm::fold() {
  const BatchNormTensors bn = bn_.tensors();
  const std::vector<Tensor> sources{conv_.weight(), bn.gamma, bn.beta, bn.running_mean, bn.running_var};
  std::vector<std::uint64_t> versions;
  versions.reserve(sources.size());
  for (const Tensor& t : sources) versions.push_back(t.version());
  // Kept tensors keep their memory, so that equal addresses are the same tensors.
  if (kept_ && versions == kept_->versions && kept_->mode_changes == bn_.mode_changes() &&
      std::equal(sources.begin(), sources.end(), kept_->sources.begin(), kept_->sources.end(),
                 [](const Tensor& a, const Tensor& b) { return a.view().data == b.view().data; }))
    return;
  const std::int64_t channels = bn.gamma.numel();
  const Tensor scale = div(bn.gamma, sqrt(affine(bn.running_var, 1.0f, bn_.eps())));
  kept_ = Folded{};
  kept_->weight = mul(conv_.weight(), reshape(scale, {channels, 1, 1, 1}));
  kept_->bias = sub(bn.beta, mul(bn.running_mean, scale));
  kept_->sources = sources;
  kept_->versions = std::move(versions);
  kept_->mode_changes = bn_.mode_changes();
}

bool ConvBatchNorm::folded() {
  if (bn_.training() || grad_enabled() || !folding) {
    kept_.reset();  // training has better use for the memory
    return false;
  }
  fold();
  return true;
}

Tensor ConvBatchNorm::packed(const Tensor& x, const Tensor& residual, Activation activation) {
  if (!packing) {
    kept_->packing = {};
    return {};
  }
  return kept_->packing.of(x, kept_->weight, [&] {
    return pack_conv2d(x, kept_->weight, kept_->bias, conv_.geometry(), activation, residual);
  });
}

Tensor ConvBatchNorm::operator()(const Tensor& x, const Tensor& residual, Activation activation) {
  if (!folded()) return bn_.fused(conv_(x), residual, activation);
  return conv2d_packed(x, kept_->weight, packed(x, residual, activation), kept_->bias, conv_.geometry(),
                       activation, residual);
}

Tensor ConvBatchNorm::relu_max_pool(const Tensor& x, const Pool2dGeometry& pool) {
  if (!folded()) return max_pool2d(bn_.fused(conv_(x), {}, Activation::relu), pool);
  return conv2d_relu_max_pool2d(x, kept_->weight, kept_->bias, conv_.geometry(), pool);
}

Dropout::Dropout(float p) : p_(p) {
  if (!(p >= 0.0f && p < 1.0f)) throw Error("[Dropout] p = " + std::to_string(p) + ", expected 0 <= p < 1");
}

void Dropout::on_random_state(const RandomState& state, std::uint64_t stream) {
  state_ = state;
  stream_ = stream;
  seeded_ = true;
}

Tensor Dropout::forward(const Tensor& x) {
  if (!training() || p_ == 0.0f) return x;
  if (!seeded_)
    throw Error("[Dropout] no random state: call set_random_state() on the model before training");
  const std::int64_t per_image = x.size(0) > 0 ? x.numel() / x.size(0) : 0;
  return dropout(x, p_, {state_.seed, stream_, state_.step, state_.first_image * per_image});
}

ConvReluMaxPool2d::ConvReluMaxPool2d(Initializer& init, const Conv2dOptions& o, int kernel, int stride,
                                     int padding)
    : geometry_(geometry_of(o)),
      pool_(square_pool(kernel, stride, padding)),
      weight_(register_parameter("weight", filter(init, checked(o)), Layout::filter)) {
  if (o.bias) bias_ = &register_parameter("bias", conv_bias(init, o));
}

Tensor ConvReluMaxPool2d::forward(const Tensor& x) {
  return conv2d_relu_max_pool2d(x, weight_, or_absent(bias_), geometry_, pool_);
}

MaxPool2d::MaxPool2d(int kernel, int stride, int padding) : geometry_(square_pool(kernel, stride, padding)) {}
AvgPool2d::AvgPool2d(int kernel, int stride, int padding) : geometry_(square_pool(kernel, stride, padding)) {}

Tensor Sequential::forward(const Tensor& x) {
  Tensor y = x;
  for (Module* m : order_) y = (*m)(y);
  return y;
}

}  // namespace cairn::nn
