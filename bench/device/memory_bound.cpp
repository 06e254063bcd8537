// The kernels that move more than they compute, at the models' shapes. Bytes: every operand once, and batch
// norm's x (backward: x and dy) twice, since its sums come first.
#include "bench/device/case.h"
#include "kernels/batch_norm.h"
#include "kernels/dropout.h"
#include "kernels/loss.h"
#include "kernels/optimizer.h"
#include "kernels/pointwise.h"
#include "kernels/pool.h"

namespace cairn::bench {
namespace {

using namespace kernels;

double bytes_of(const Shape& s, DType t) {
  return static_cast<double>(s.numel()) * static_cast<double>(size_of(t));
}

void add_pointwise(std::vector<Case>& cases, const Shape& s, DType type) {
  const double n = bytes_of(s, type);
  cases.push_back({"copy", s, type, 2 * n, 0, [s](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(cast, {k.in(s), k.out(s)});
                   }});
  cases.push_back({"relu_forward", s, type, 2 * n, 0, [s](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(relu_forward, {k.in(s), k.out(s)});
                   }});
  cases.push_back({"relu_backward", s, type, 3 * n, 0, [s](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(relu_backward, {k.in(s), k.in(s), k.out(s)});
                   }});
  cases.push_back({"add", s, type, 3 * n, 0, [s](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(binary_forward, {BinaryOp::add, k.in(s), k.in(s), k.out(s)});
                   }});
  cases.push_back(
      {"dropout", s, type, 2 * n, 0, [s](Device d, DType t) {
         Tensors k(d, t);
         return k.run(dropout, {.x = k.in(s), .y = k.out(s), .p = 0.25f, .seed = 1, .stream = 2, .step = {}});
       }});
}

void add_batch_norm(std::vector<Case>& cases, const Shape& s, DType type) {
  const double n = bytes_of(s, type);
  const Shape c{s[3]};
  cases.push_back({"batch_norm_relu_forward", s, type, 3 * n, 0, [s, c](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(batch_norm_forward, {.x = k.in(s),
                                                       .gamma = k.in(c, DType::f32),
                                                       .beta = k.in(c, DType::f32),
                                                       .residual = {},
                                                       .y = k.out(s),
                                                       .mean = k.out(c, DType::f32),
                                                       .inv_std = k.out(c, DType::f32),
                                                       .running_mean = {},
                                                       .running_var = {},
                                                       .activation = Activation::relu});
                   }});
  cases.push_back({"batch_norm_relu_add_inference", s, type, 3 * n, 0, [s, c](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(batch_norm_inference,
                                  {.x = k.in(s),
                                   .gamma = k.in(c, DType::f32),
                                   .beta = k.in(c, DType::f32),
                                   .running_mean = k.in(c, DType::f32),
                                   .running_var = k.keep(full(c, 0.5, DType::f32, d)).view(),
                                   .residual = k.in(s),
                                   .y = k.out(s),
                                   .activation = Activation::relu});
                   }});
  cases.push_back({"batch_norm_relu_backward", s, type, 5 * n, 0, [s, c](Device d, DType t) {
                     Tensors k(d, t);
                     // A mean and a deviation between the values' multiples of 1/64: no element lies on the
                     // ReLU's kink.
                     return k.run(batch_norm_backward, {.x = k.in(s),
                                                        .y = {},
                                                        .dy = k.in(s),
                                                        .gamma = k.keep(full(c, 0.75, DType::f32, d)).view(),
                                                        .beta = k.keep(full(c, 0.0, DType::f32, d)).view(),
                                                        .mean = k.keep(full(c, 0.0078, DType::f32, d)).view(),
                                                        .inv_std = k.keep(full(c, 1.7, DType::f32, d)).view(),
                                                        .dx = k.out(s),
                                                        .dresidual = {},
                                                        .dgamma = k.out(c, DType::f32),
                                                        .dbeta = k.out(c, DType::f32),
                                                        .activation = Activation::relu});
                   }});
}

void add_max_pool(std::vector<Case>& cases, const Shape& in, const Pool2dGeometry& g, DType type) {
  const Shape out{in[0], (in[1] + 2 * g.padding_h - g.kernel_h) / g.stride_h + 1,
                  (in[2] + 2 * g.padding_w - g.kernel_w) / g.stride_w + 1, in[3]};
  const double n = bytes_of(in, type) + bytes_of(out, type) + static_cast<double>(out.numel());
  const std::string name = "max_pool_" + std::to_string(g.kernel_h) + "x" + std::to_string(g.kernel_w);
  cases.push_back(
      {name + "_forward", in, type, n, 0, [in, out, g](Device d, DType t) {
         Tensors k(d, t);
         return k.run(max_pool2d_forward, {k.in(in), k.out(out), k.state(empty(out, DType::u8, d)), g});
       }});
  cases.push_back({name + "_backward", in, type, n, 0, [in, out, g](Device d, DType t) {
                     Tensors k(d, t);
                     // Every window's middle wins, in the image also where the window hangs over its edge.
                     const auto middle =
                         static_cast<std::uint8_t>(g.kernel_h / 2 * g.kernel_w + g.kernel_w / 2);
                     const std::vector<std::uint8_t> index(static_cast<std::size_t>(out.numel()), middle);
                     const ConstView winners = k.keep(from_values<std::uint8_t>(out, index, d)).view();
                     return k.run(max_pool2d_backward, {k.in(out), winners, k.out(in), g});
                   }});
}

void add_global_pool(std::vector<Case>& cases, const Shape& in, DType type) {
  const Shape out{in[0], in[3]};
  const double n = bytes_of(in, type) + bytes_of(out, type);
  cases.push_back({"global_avg_pool_forward", in, type, n, 0, [in, out](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(global_avg_pool_forward, {k.in(in), k.out(out)});
                   }});
  cases.push_back({"global_avg_pool_backward", in, type, n, 0, [in, out](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(global_avg_pool_backward, {k.in(out), k.out(in)});
                   }});
}

void add_loss(std::vector<Case>& cases, const Shape& s, DType type) {
  const double n = bytes_of(s, type) + bytes_of(s, DType::f32);
  cases.push_back({"softmax", s, type, n, 0, [s](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(softmax, {k.in(s), k.out(s, DType::f32)});
                   }});
  cases.push_back({"softmax_cross_entropy", s, type, n, 0, [s](Device d, DType t) {
                     Tensors k(d, t);
                     std::vector<std::int32_t> labels;
                     for (std::int64_t i = 0; i < s[0]; ++i)
                       labels.push_back(static_cast<std::int32_t>(i % s[1]));
                     const ConstView y = k.keep(from_values<std::int32_t>({s[0]}, labels, d)).view();
                     return k.run(kernels::softmax_cross_entropy, {.logits = k.in(s),
                                                                   .labels = y,
                                                                   .labels2 = {},
                                                                   .lambda = {},
                                                                   .class_weights = {},
                                                                   .loss = k.out({1}, DType::f32),
                                                                   .per_image = {},
                                                                   .dlogits = k.out(s, DType::f32)});
                   }});
}

/// The scalars of a step, on the device, as the optimiser keeps them.
const StepScalars* scalars_of(Tensors& k) {
  const StepScalars scalars{
      .lr = 1e-3f, .bias_correction1 = 0.5f, .bias_correction2 = 0.5f, .grad_scale = 1, .step = 10};
  std::vector<std::uint8_t> bytes(sizeof scalars);
  __builtin_memcpy(bytes.data(), &scalars, sizeof scalars);
  const Shape shape{static_cast<std::int64_t>(bytes.size())};
  return static_cast<const StepScalars*>(
      k.keep(from_values<std::uint8_t>(shape, bytes, k.device())).view().data);
}

void add_optimizers(std::vector<Case>& cases, std::int64_t n) {
  const Shape s{n};
  const double bytes = bytes_of(s, DType::f32);
  // Parameters go on from where they are, run after run: they are not compared twice.
  cases.push_back({"sgd_momentum", s, DType::f32, 5 * bytes, 0, [s](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(sgd_step, {.param = k.out(s),
                                             .grad = k.in(s),
                                             .momentum_buffer = k.out(s),
                                             .shadow = {},
                                             .scalars = scalars_of(k),
                                             .grad_norm = {},
                                             .nonfinite = {},
                                             .momentum = 0.9f,
                                             .weight_decay = 1e-4f});
                   }});
  cases.push_back({"adamw", s, DType::f32, 7 * bytes, 0, [s](Device d, DType t) {
                     Tensors k(d, t);
                     return k.run(adam_step, {.param = k.out(s),
                                              .grad = k.in(s),
                                              .exp_avg = k.out(s),
                                              .exp_avg_sq = k.out(s),
                                              .shadow = {},
                                              .scalars = scalars_of(k),
                                              .grad_norm = {},
                                              .nonfinite = {},
                                              .weight_decay = 1e-2f,
                                              .decoupled = true});
                   }});
}

}  // namespace

std::vector<Case> memory_bound_cases(std::int64_t batch) {
  std::vector<Case> cases;
  const bool small = batch < 8;
  for (const DType t : {DType::f32, DType::bf16, DType::f16}) {
    // ResNet-18's first and last stage.
    for (const Shape& s : {Shape{batch, 56, 56, 64}, Shape{batch, 7, 7, 512}}) add_pointwise(cases, s, t);
    for (const Shape& s : {Shape{batch, 112, 112, 64}, Shape{batch, 56, 56, 64}, Shape{batch, 28, 28, 128},
                           Shape{batch, 14, 14, 256}, Shape{batch, 7, 7, 512}})
      add_batch_norm(cases, s, t);
    add_max_pool(cases, {batch, 112, 112, 64},
                 {.kernel_h = 3, .kernel_w = 3, .stride_h = 2, .stride_w = 2, .padding_h = 1, .padding_w = 1},
                 t);                                    // ResNet's stem
    add_max_pool(cases, {batch, 112, 112, 64}, {}, t);  // ModelCNN's second block
    add_global_pool(cases, {batch, 7, 7, 512}, t);
    add_loss(cases, {batch, 1000}, t);
  }
  add_optimizers(cases, small ? 100'000 : 11'176'512);  // all of ResNet-18's
  return cases;
}

}  // namespace cairn::bench
