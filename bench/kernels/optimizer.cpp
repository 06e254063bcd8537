// One step of each optimiser over ModelCNN's parameters. oneDNN has none: the bound is the bytes.
#include "kernels/optimizer.h"

#include "bench/kernels/bench.h"

namespace cairn::bench {
namespace {

using namespace kernels;

struct Tensors {
  explicit Tensors(std::int64_t n)
      : param(DType::f32, {n}, 1), grad(DType::f32, {n}, 2), first(DType::f32, {n}), second(DType::f32, {n}) {
    std::fill_n(second.view().as<float>(), n, 1.0f);  // a sum of squares is no negative number
  }
  Buffer param, grad, first, second;
  StepScalars scalars{
      .lr = 1e-6f, .bias_correction1 = 0.5f, .bias_correction2 = 0.5f, .grad_scale = 1, .step = 10};
};

}  // namespace

void register_optimizer() {
  const Shape shape{11'000'000};  // ResNet-18's
  const auto k = std::make_shared<Tensors>(shape[0]);
  const double bytes = static_cast<double>(k->param.bytes());
  add_row(row_name("sgd_momentum", shape, DType::f32) + "cairn",
          cairn_job(sgd_step, SgdStep{.param = k->param.view(),
                                      .grad = k->grad.view(),
                                      .momentum_buffer = k->first.view(),
                                      .shadow = {},
                                      .scalars = &k->scalars,
                                      .grad_norm = {},
                                      .nonfinite = {},
                                      .momentum = 0.9f,
                                      .weight_decay = 1e-4f}),
          k, 5 * bytes);
  add_row(row_name("adamw", shape, DType::f32) + "cairn",
          cairn_job(adam_step, AdamStep{.param = k->param.view(),
                                        .grad = k->grad.view(),
                                        .exp_avg = k->first.view(),
                                        .exp_avg_sq = k->second.view(),
                                        .shadow = {},
                                        .scalars = &k->scalars,
                                        .grad_norm = {},
                                        .nonfinite = {},
                                        .weight_decay = 1e-2f,
                                        .decoupled = true}),
          k, 7 * bytes);
}

}  // namespace cairn::bench
