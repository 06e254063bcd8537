#include "engine/nn/layers.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "engine/autograd.h"
#include "kernels/error.h"

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

const LinearOptions& checked(const LinearOptions& o) {
  require_positive(o.in_features, "Linear", "in_features");
  require_positive(o.out_features, "Linear", "out_features");
  return o;
}

Pool2dGeometry square_pool(int kernel, int stride, int padding) {
  const int step = stride > 0 ? stride : kernel;
  return {kernel, kernel, step, step, padding, padding};
}

bool folding_wanted() {
  const char* without = std::getenv("CAIRN_WITHOUT");
  return !without || (',' + std::string(without) + ',').find(",folding,") == std::string::npos;
}
std::atomic<bool> folding{folding_wanted()};

Tensor or_absent(const Tensor* t) { return t ? *t : Tensor(); }

}  // namespace

Conv2d::Conv2d(Initializer& init, const Conv2dOptions& o)
    : geometry_{o.stride, o.stride, o.padding, o.padding, o.dilation, o.dilation, o.groups},
      activation_(o.activation),
      weight_(register_parameter("weight", filter(init, checked(o)), Layout::filter)) {
  const std::int64_t fan_in = o.in_channels / o.groups * o.kernel * o.kernel;
  if (o.bias) bias_ = &register_parameter("bias", init.uniform({o.out_channels}, default_bound(fan_in)));
}

Tensor Conv2d::forward(const Tensor& x) {
  return conv2d(x, weight_, or_absent(bias_), geometry_, activation_);
}

Linear::Linear(Initializer& init, const LinearOptions& o)
    : activation_(o.activation),
      weight_(register_parameter(
          "weight", init.uniform({checked(o).out_features, o.in_features}, default_bound(o.in_features)))) {
  if (o.bias)
    bias_ = &register_parameter("bias", init.uniform({o.out_features}, default_bound(o.in_features)));
}

Tensor Linear::forward(const Tensor& x) { return linear(x, weight_, or_absent(bias_), activation_); }

BatchNorm2d::BatchNorm2d(Initializer& init, std::int64_t channels, float momentum, float eps)
    : momentum_(momentum),
      eps_(eps),
      weight_(register_parameter("weight", init.constant({channels}, 1.0))),
      bias_(register_parameter("bias", init.constant({channels}, 0.0))),
      running_mean_(register_buffer("running_mean", zeros({channels}))),
      running_var_(register_buffer("running_var", full({channels}, 1.0))) {}

Tensor BatchNorm2d::fused(const Tensor& x, const Tensor& residual, Activation activation) {
  return training() ? batch_norm(x, tensors(), residual, activation, momentum_, eps_)
                    : batch_norm_inference(x, tensors(), residual, activation, eps_);
}

void ConvBatchNorm::set_folding(bool on) { folding = on; }

void ConvBatchNorm::fold() {
  const BatchNormTensors bn = bn_.tensors();
  const std::vector<Tensor> sources{conv_.weight(), bn.gamma, bn.beta, bn.running_mean, bn.running_var};
  std::vector<std::uint64_t> versions;
  for (const Tensor& t : sources) versions.push_back(t.version());
  // Kept tensors keep their memory, so that equal addresses are the same tensors.
  const bool same =
      std::equal(sources.begin(), sources.end(), sources_.begin(), sources_.end(),
                 [](const Tensor& a, const Tensor& b) { return a.view().data == b.view().data; });
  if (same && versions == versions_ && mode_changes_ == bn_.mode_changes()) return;
  const std::int64_t channels = bn.gamma.numel();
  const Tensor scale = div(bn.gamma, sqrt(affine(bn.running_var, 1.0f, bn_.eps())));
  weight_ = mul(conv_.weight(), reshape(scale, {channels, 1, 1, 1}));
  bias_ = sub(bn.beta, mul(bn.running_mean, scale));
  sources_ = sources;
  versions_ = std::move(versions);
  mode_changes_ = bn_.mode_changes();
}

Tensor ConvBatchNorm::operator()(const Tensor& x, const Tensor& residual, Activation activation) {
  if (bn_.training() || grad_enabled() || !folding) return bn_.fused(conv_(x), residual, activation);
  fold();
  return conv_.with(x, weight_, bias_, residual, activation);
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

MaxPool2d::MaxPool2d(int kernel, int stride, int padding) : geometry_(square_pool(kernel, stride, padding)) {}
AvgPool2d::AvgPool2d(int kernel, int stride, int padding) : geometry_(square_pool(kernel, stride, padding)) {}

Tensor Sequential::forward(const Tensor& x) {
  Tensor y = x;
  for (Module* m : order_) y = (*m)(y);
  return y;
}

}  // namespace cairn::nn
