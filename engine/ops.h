#pragma once
#include <optional>
#include <span>
#include <vector>

#include "engine/tensor.h"
#include "kernels/conv.h"
#include "kernels/pool.h"

/// Every public op, the table of contents of engine/ops/. Images are [N,H,W,C]. Inputs of one op share a
/// device and, unless said otherwise, a dtype; ops throw ShapeError, DTypeError naming op, argument and
/// value. "compute dtype": fp32, bf16, fp16 (fp64 in checks). Parameters are fp32 whatever the compute dtype.
namespace cairn {

using kernels::Activation;
using kernels::Conv2dGeometry;
using kernels::Pool2dGeometry;

// Convolution and matrix products.
/// x [N,H,W,C], w [K,R,S,C/groups] fp32, bias [K] fp32 or undefined -> [N,P,Q,K]. residual (as the result, or
/// undefined) and activation are fused behind: activation(conv(x, w) + bias + residual).
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias = {}, const Conv2dGeometry& geometry = {},
              Activation activation = Activation::none, const Tensor& residual = {});
/// w in the layout that the device wants for conv2d() on an x of this shape and dtype with these arguments,
/// for conv2d_packed(), which then has no need to make it at every call; undefined where w as it is serves
/// best. It stays right until w changes.
Tensor pack_conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2dGeometry& geometry,
                   Activation activation, const Tensor& residual);
/// conv2d() without gradients, to the same bits. packed: what pack_conv2d() answered for the same arguments.
Tensor conv2d_packed(const Tensor& x, const Tensor& w, const Tensor& packed, const Tensor& bias,
                     const Conv2dGeometry& geometry, Activation activation, const Tensor& residual);
/// max_pool2d(relu(conv2d(x, w, bias, geometry)), pool), equal to the three up to the order of the sums in
/// the gradients of w and bias. On the CPU the batch goes through some images at a time: what the convolution
/// makes stays in the caches and is not kept (CAIRN_WITHOUT=conv-pool: the ops one by one). kernel_h *
/// kernel_w < 256.
Tensor conv2d_relu_max_pool2d(const Tensor& x, const Tensor& w, const Tensor& bias,
                              const Conv2dGeometry& geometry, const Pool2dGeometry& pool);
/// x [N,C], w [K,C] fp32, bias [K] fp32 or undefined -> [N,K].
Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias = {},
              Activation activation = Activation::none);
/// As pack_conv2d() and conv2d_packed().
Tensor pack_linear(const Tensor& x, const Tensor& w, const Tensor& bias, Activation activation);
Tensor linear_packed(const Tensor& x, const Tensor& w, const Tensor& packed, const Tensor& bias,
                     Activation activation);
/// a [M,K] or [B,M,K], b [K,N] or [B,K,N] -> [M,N] or [B,M,N]; a batch of one is shared.
Tensor matmul(const Tensor& a, const Tensor& b);

// Normalisation.
/// What batch norm reads and keeps: gamma, beta [C] parameters; running_mean, running_var [C] buffers,
/// changed in place while training. All fp32.
struct BatchNormTensors {
  Tensor gamma, beta, running_mean, running_var;
};
/// Batch normalisation (Ioffe & Szegedy 2015), training form: the batch's statistics; activation and residual
/// ([N,H,W,C] as x, or undefined) are fused behind: activation(bn(x) + residual).
Tensor batch_norm(const Tensor& x, const BatchNormTensors& bn, const Tensor& residual = {},
                  Activation activation = Activation::none, float momentum = 0.1f, float eps = 1e-5f);
/// Inference form: the running statistics.
Tensor batch_norm_inference(const Tensor& x, const BatchNormTensors& bn, const Tensor& residual = {},
                            Activation activation = Activation::none, float eps = 1e-5f);

// Activations and elementwise functions.
Tensor relu(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor tanh(const Tensor& x);
/// Inverted dropout with the mask of (seed, stream, step, element): see kernels/dropout.h. Identity for p =
/// 0.
struct DropoutKey {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;
  Tensor step;                   // [1] int64 on x's device, or undefined
  std::int64_t first_index = 0;  // of x's first element in the global batch
};
Tensor dropout(const Tensor& x, float p, const DropoutKey& key);

// Arithmetic with NumPy's broadcasting (shapes aligned at the last axis).
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
/// scale * x + shift
Tensor affine(const Tensor& x, float scale, float shift = 0.0f);

// Reductions. axes empty: all. keepdim as in PyTorch. Accumulated in fp32.
Tensor sum(const Tensor& x, std::vector<int> axes = {}, bool keepdim = false);
Tensor mean(const Tensor& x, std::vector<int> axes = {}, bool keepdim = false);
/// The gradient is shared evenly among equal maxima (torch.amax).
Tensor max(const Tensor& x, std::vector<int> axes = {}, bool keepdim = false);

// Pooling.
/// kernel_h * kernel_w <= 256; padding at most half the kernel.
Tensor max_pool2d(const Tensor& x, const Pool2dGeometry& geometry);
Tensor avg_pool2d(const Tensor& x, const Pool2dGeometry& geometry, bool count_include_pad = true);
/// [N,H,W,C] -> [N,C]
Tensor global_avg_pool(const Tensor& x);

// Shape.
Tensor reshape(const Tensor& x, const Shape& shape);
/// result axis i is x's axis order[i].
Tensor permute(const Tensor& x, std::vector<int> order);
/// Elements begin <= i < end of an axis.
Tensor slice(const Tensor& x, int axis, std::int64_t begin, std::int64_t end);
Tensor concat(std::span<const Tensor> parts, int axis);
/// [N,H,W,C] -> [N, C*H*W] in channel-height-width order, as PyTorch's flatten of NCHW has it.
Tensor flatten(const Tensor& x);
/// Conversion between floating dtypes, on the tape.
Tensor cast(const Tensor& x, DType dtype);

// Loss.
struct CrossEntropyOptions {
  float label_smoothing = 0.0f;
  float focal_gamma = 0.0f;
  Tensor class_weights{};  // [C] fp32 or undefined
  Tensor labels2{};        // [N] int32 or undefined: second label of mixup / CutMix
  Tensor lambda{};         // [N] fp32, weight of the first label
};
/// Mean softmax cross-entropy [1] (fp32; fp64 for fp64 logits): see kernels/loss.h. labels [N] int32 in [0,
/// C), checked where they are made.
Tensor softmax_cross_entropy(const Tensor& logits, const Tensor& labels,
                             const CrossEntropyOptions& options = {});
/// Probabilities over the last axis, fp32, outside the tape.
Tensor softmax(const Tensor& logits);

// Input.
struct Normalization {
  float mean[3] = {0.5f, 0.5f, 0.5f};
  float std[3] = {0.5f, 0.5f, 0.5f};
};
/// uint8 [N,H,W,3] -> compute dtype [N,H,W,3]: (x/255 - mean) / std, mirrored where flip [N] uint8 is not 0.
/// With index [N] int32, image n is images[index[n]]; indices are checked where they are made.
Tensor preprocess(const Tensor& images, DType dtype, const Normalization& normalization = {},
                  const Tensor& flip = {}, const Tensor& index = {});
/// Into memory that is there, e.g. a captured graph's input: y [N,H,W,3] of a compute dtype. With crop [N,2]
/// int32, image n is cut out of a larger one, from its row crop[n][0] and column crop[n][1] on, before it is
/// mirrored; that the cut lies within the image is checked where crop is made.
void preprocess_into(const Tensor& y, const Tensor& images, const Normalization& normalization = {},
                     const Tensor& flip = {}, const Tensor& index = {}, const Tensor& crop = {});

}  // namespace cairn
