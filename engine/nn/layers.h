#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/nn/init.h"
#include "engine/nn/module.h"

namespace cairn::distributed {
class Collective;
}

/// Layers: an op, its parameters under PyTorch's names and PyTorch's initialisation. Parameters are fp32 on
/// the CPU until Module::to() moves them; a layer computes in the dtype of its input.
namespace cairn::nn {

enum class WeightInit : std::uint8_t {
  kaiming_uniform,         // PyTorch's default
  kaiming_normal_fan_out,  // torchvision's ResNet
};

struct Conv2dOptions {
  std::int64_t in_channels = 0;
  std::int64_t out_channels = 0;
  int kernel = 3;  // square
  int stride = 1;
  int padding = 0;
  int dilation = 1;
  int groups = 1;
  bool bias = true;
  Activation activation = Activation::none;  // fused behind
  WeightInit init = WeightInit::kaiming_uniform;
};
/// [N,H,W,in_channels] -> [N,P,Q,out_channels]. weight [K,R,S,C/groups], bias [K].
class Conv2d : public Module {
 public:
  Conv2d(Initializer& init, const Conv2dOptions& options);
  Tensor forward(const Tensor& x) override;
  const Tensor& weight() const { return weight_; }
  const Conv2dGeometry& geometry() const { return geometry_; }

 private:
  Conv2dGeometry geometry_;
  Activation activation_;
  Tensor& weight_;
  Tensor* bias_ = nullptr;
};

struct LinearOptions {
  std::int64_t in_features = 0;
  std::int64_t out_features = 0;
  bool bias = true;
  Activation activation = Activation::none;
};
/// A layer's weight in the layout that the device wants (pack_conv2d, pack_linear), kept until the weight, or
/// the shape or dtype that it is for, changes.
class KeptPacking {
 public:
  /// make(): the layout for x.
  template <class Make>
  const Tensor& of(const Tensor& x, const Tensor& weight, Make&& make) {
    const bool same = weight_.defined() && weight_.view().data == weight.view().data &&
                      version_ == weight.version() && shape_ == x.shape() && dtype_ == x.dtype();
    if (!same) {
      packed_ = {};  // first, so that its memory serves again
      packed_ = make();
      weight_ = weight;
      version_ = weight.version();
      shape_ = x.shape();
      dtype_ = x.dtype();
    }
    return packed_;
  }

 private:
  Tensor weight_;  // keeps its memory, so that an equal address is the same tensor
  std::uint64_t version_ = 0;
  Shape shape_;  // of x
  DType dtype_ = DType::f32;
  Tensor packed_;
};

/// [N,in_features] -> [N,out_features]. weight [K,C], bias [K]. For inference the weight is kept packed.
class Linear : public Module {
 public:
  Linear(Initializer& init, const LinearOptions& options);
  Tensor forward(const Tensor& x) override;
  Tensor& bias() const { return *bias_; }

 private:
  Activation activation_;
  Tensor& weight_;
  Tensor* bias_ = nullptr;
  KeptPacking packing_;
};

/// Batch statistics while training, running statistics in evaluation. weight = 1, bias = 0 at the start.
class BatchNorm2d : public Module {
 public:
  BatchNorm2d(Initializer& init, std::int64_t channels, float momentum = 0.1f, float eps = 1e-5f);
  Tensor forward(const Tensor& x) override { return fused(x, {}, Activation::none); }
  /// activation(bn(x) + residual) in one pass; residual may be undefined.
  Tensor fused(const Tensor& x, const Tensor& residual, Activation activation);
  BatchNormTensors tensors() const { return {weight_, bias_, running_mean_, running_var_}; }
  float eps() const { return eps_; }
  /// From now on the statistics of training are those of all processes' images; null: of this one's.
  /// `processes` must outlive the layer's use.
  void synchronize(distributed::Collective* processes) { processes_ = processes; }

 private:
  distributed::Collective* processes_ = nullptr;
  float momentum_;
  float eps_;
  Tensor& weight_;
  Tensor& bias_;
  Tensor& running_mean_;
  Tensor& running_var_;
};

/// activation(bn(conv(x)) + residual) of two layers that belong to their owner. In evaluation without
/// gradients the batch norm is folded into the convolution, w' = w * gamma / sqrt(running_var + eps), bias' =
/// beta - running_mean * gamma / sqrt(running_var + eps), and the convolution does it all in one pass: equal
/// up to rounding. The folded tensors, and w' in the layout that the device wants (pack_conv2d), are kept
/// until the layers' tensors or mode change. conv has no bias.
class ConvBatchNorm {
 public:
  ConvBatchNorm(Conv2d& conv, BatchNorm2d& bn) : conv_(conv), bn_(bn) {}
  Tensor operator()(const Tensor& x, const Tensor& residual, Activation activation);
  /// max_pool2d((*this)(x, {}, relu), pool).
  Tensor relu_max_pool(const Tensor& x, const Pool2dGeometry& pool);

  /// Off: batch norm stays an op of its own (for comparison; also CAIRN_WITHOUT=folding).
  static void set_folding(bool on);
  /// Off: filters are laid out anew at each call (for comparison; also CAIRN_WITHOUT=packing).
  static void set_packing(bool on);

 private:
  /// True where the folded form may be used, which then is there; else nothing of it is kept.
  bool folded();
  void fold();
  Tensor packed(const Tensor& x, const Tensor& residual, Activation activation);
  Conv2d& conv_;
  BatchNorm2d& bn_;
  struct Folded {
    Tensor weight, bias;
    // What they were made of.
    std::uint64_t mode_changes = 0;
    std::vector<Tensor> sources;
    std::vector<std::uint64_t> versions;
    KeptPacking packing;
  };
  std::optional<Folded> kept_;
};

/// Inverted dropout while training, the identity in evaluation. Needs Module::set_random_state() first.
class Dropout : public Module {
 public:
  explicit Dropout(float p);
  Tensor forward(const Tensor& x) override;

 protected:
  void on_random_state(const RandomState& state, std::uint64_t stream) override;

 private:
  float p_;
  RandomState state_;
  std::uint64_t stream_ = 0;
  bool seeded_ = false;
};

class ReLU : public Module {
 public:
  Tensor forward(const Tensor& x) override { return relu(x); }
};

class MaxPool2d : public Module {
 public:
  explicit MaxPool2d(int kernel, int stride = 0, int padding = 0);  // stride 0: the kernel's
  Tensor forward(const Tensor& x) override { return max_pool2d(x, geometry_); }

 private:
  Pool2dGeometry geometry_;
};

/// max_pool2d(relu(conv)) in one pass (conv2d_relu_max_pool2d); tensors and names are the convolution's.
class ConvReluMaxPool2d : public Module {
 public:
  ConvReluMaxPool2d(Initializer& init, const Conv2dOptions& options, int kernel, int stride = 0,
                    int padding = 0);  // of the pooling; stride 0: the kernel's
  Tensor forward(const Tensor& x) override;

 private:
  Conv2dGeometry geometry_;
  Pool2dGeometry pool_;
  Tensor& weight_;
  Tensor* bias_ = nullptr;
};

class AvgPool2d : public Module {
 public:
  explicit AvgPool2d(int kernel, int stride = 0, int padding = 0);
  Tensor forward(const Tensor& x) override { return avg_pool2d(x, geometry_); }

 private:
  Pool2dGeometry geometry_;
};

/// [N,H,W,C] -> [N,C]: torch.nn.AdaptiveAvgPool2d(1) and a flatten.
class GlobalAvgPool : public Module {
 public:
  Tensor forward(const Tensor& x) override { return global_avg_pool(x); }
};

/// [N,H,W,C] -> [N,C*H*W] in channel-height-width order, so that a linear layer behind it has PyTorch's
/// weight.
class Flatten : public Module {
 public:
  Tensor forward(const Tensor& x) override { return flatten(x); }
};

/// Goes on in fp32: a head's logits decide the loss, and cost nothing.
class ToFp32 : public Module {
 public:
  Tensor forward(const Tensor& x) override { return cast(x, DType::f32); }
};

/// Its children one after another. Names are given, not counted, so that key names survive when a layer is
/// fused into the one before.
class Sequential : public Module {
 public:
  template <class M, class... A>
  Sequential& add(std::string name, A&&... args) {
    order_.push_back(&make<M>(std::move(name), std::forward<A>(args)...));
    return *this;
  }
  Tensor forward(const Tensor& x) override;

 private:
  std::vector<Module*> order_;
};

}  // namespace cairn::nn
