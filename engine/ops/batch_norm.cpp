#include "kernels/batch_norm.h"

#include "engine/autograd.h"
#include "engine/distributed/sync_batch_norm.h"
#include "engine/ops.h"
#include "engine/ops/checks.h"
#include "kernels/device.h"
#include "kernels/pointwise.h"
#include "kernels/sync_batch_norm.h"

namespace cairn {
namespace {

void check_arguments(const char* op, const Tensor& x, const BatchNormTensors& bn, const Tensor& residual,
                     bool running) {
  ops::require_floating(x, op);
  ops::require(x.rank() == 4 || x.rank() == 2, op,
               "input is " + to_string(x.shape()) + ", expected [N,H,W,C] or [N,C]");
  const Shape c{x.size(x.rank() - 1)};
  ops::require_parameter(x, bn.gamma, c, op, "gamma");
  ops::require_parameter(x, bn.beta, c, op, "beta");
  if (running || bn.running_mean.defined() || bn.running_var.defined()) {
    ops::require_parameter(x, bn.running_mean, c, op, "running_mean");
    ops::require_parameter(x, bn.running_var, c, op, "running_var");
  }
  if (residual.defined()) {
    ops::require(residual.shape() == x.shape(), op,
                 "residual is " + to_string(residual.shape()) + ", input " + to_string(x.shape()));
    ops::require_dtype(residual, x.dtype(), op, "residual");
    ops::require_same_device(x, residual, op, "residual");
  }
}

}  // namespace

// y = act(gamma * (x - mean) * inv_std + beta + residual). Saves x, mean and inv_std ([C]); the ReLU mask is
// drawn from y only where a residual makes it impossible to recompute from x.
Tensor batch_norm(const Tensor& x, const BatchNormTensors& bn, const Tensor& residual, Activation activation,
                  float momentum, float eps) {
  constexpr const char* kOp = "batch_norm";
  check_arguments(kOp, x, bn, residual, false);
  const std::int64_t channels = x.size(x.rank() - 1);
  ops::require(channels == 0 || x.numel() / channels > 1, kOp,
               "expected more than 1 value per channel when training, got input " + to_string(x.shape()) +
                   "; use a larger batch, or eval()");
  const DType dtype = ops::parameter_dtype(x.dtype());
  Tensor y = empty_like(x);
  Tensor mean = empty({channels}, dtype, x.device());
  Tensor inv_std = empty({channels}, dtype, x.device());
  call(kernels::batch_norm_forward, x.queue(),
       {.x = x.view(),
        .gamma = bn.gamma.view(),
        .beta = bn.beta.view(),
        .residual = residual.view(),
        .y = y.out(),
        .mean = mean.out(),
        .inv_std = inv_std.out(),
        .running_mean = bn.running_mean.inplace(),
        .running_var = bn.running_var.inplace(),
        .momentum = momentum,
        .eps = eps,
        .activation = activation});
  const Saved saved_y = activation == Activation::relu && residual.defined() ? Saved(y) : Saved();
  return record(kOp, y, {x, bn.gamma, bn.beta, residual},
                [x = Saved(x), gamma = Saved(bn.gamma), beta = Saved(bn.beta), mean, inv_std, saved_y,
                 activation](Grads& g) {
                  const kernels::Queue& queue = g.output_tensor().queue();
                  const auto dx = g.wants(0);
                  const auto dgamma = g.wants(1);
                  const auto dbeta = g.wants(2);
                  const auto dresidual = g.wants(3);
                  // The sums over the batch are needed for dx in any case.
                  const auto spare = [&] {
                    return zeros(gamma.tensor().shape(), gamma.tensor().dtype(), gamma.tensor().device());
                  };
                  Tensor unwanted_gamma = dgamma ? Tensor() : spare();
                  Tensor unwanted_beta = dbeta ? Tensor() : spare();
                  call(kernels::batch_norm_backward, queue,
                       {.x = x.view(),
                        .y = saved_y.view(),
                        .dy = g.output(),
                        .gamma = gamma.view(),
                        .beta = beta.view(),
                        .mean = mean.view(),
                        .inv_std = inv_std.view(),
                        .dx = dx ? dx->view : kernels::View{},
                        .dresidual = dresidual ? dresidual->view : kernels::View{},
                        .dgamma = dgamma ? dgamma->view : unwanted_gamma.out(),
                        .dbeta = dbeta ? dbeta->view : unwanted_beta.out(),
                        .dx_write = dx ? dx->write : kernels::Write::assign,
                        .dresidual_write = dresidual ? dresidual->write : kernels::Write::assign,
                        .param_write = dgamma  ? dgamma->write
                                       : dbeta ? dbeta->write
                                               : kernels::Write::assign,
                        .activation = activation});
                });
}

// y = act(gamma * (x - mean) * inv_std + beta + residual) with mean and variance over all processes. Saves x,
// y for the ReLU mask, mean, var ([C]) and the sums, which hold the number of values. The inference form does
// the passes over memory, in both directions; its dx lacks what comes through the statistics, which needs the
// processes' sums of dgamma and dbeta.
Tensor sync_batch_norm(const Tensor& x, const BatchNormTensors& bn, const Tensor& residual,
                       Activation activation, float momentum, float eps, distributed::Collective& processes) {
  constexpr const char* kOp = "sync_batch_norm";
  check_arguments(kOp, x, bn, residual, false);
  const std::int64_t channels = x.size(x.rank() - 1);
  ops::require(channels == 0 || x.numel() / channels * processes.world() > 1, kOp,
               "expected more than 1 value per channel when training, got input " + to_string(x.shape()) +
                   "; use a larger batch, or eval()");
  const DType dtype = ops::parameter_dtype(x.dtype());
  const Device device = x.device();
  const bool counts = processes.counts();
  const auto sum_up = [&processes, counts](const Tensor& t) {
    const kernels::View v = t.inplace();
    if (!counts)
      check(kernels::device_api(t.device().type)
                ->fill_zero(t.queue(), v.data, static_cast<std::size_t>(t.numel()) * size_of(t.dtype())));
    processes.sum(t);
  };
  Tensor sums = empty({2 * channels + 1}, DType::f64, device);
  call(kernels::channel_moments, x.queue(), {.x = x.view(), .sums = sums.out()});
  sum_up(sums);
  Tensor mean = empty({channels}, dtype, device), var = empty({channels}, dtype, device);
  call(kernels::batch_norm_statistics, x.queue(),
       {.sums = sums.view(),
        .mean = mean.out(),
        .var = var.out(),
        .running_mean = bn.running_mean.inplace(),
        .running_var = bn.running_var.inplace(),
        .momentum = momentum});
  Tensor y = empty_like(x);
  call(kernels::batch_norm_inference, x.queue(),
       {.x = x.view(),
        .gamma = bn.gamma.view(),
        .beta = bn.beta.view(),
        .running_mean = mean.view(),
        .running_var = var.view(),
        .residual = residual.view(),
        .y = y.out(),
        .eps = eps,
        .activation = activation});
  return record(kOp, y, {x, bn.gamma, bn.beta, residual},
                [x = Saved(x), gamma = Saved(bn.gamma), mean, var, sums, sum_up, counts,
                 saved_y = activation == Activation::relu ? Saved(y) : Saved(), activation, eps, channels,
                 dtype](Grads& g) {
                  const kernels::Queue& queue = g.output_tensor().queue();
                  const auto dx = g.wants(0);
                  const auto dgamma = g.wants(1);
                  const auto dbeta = g.wants(2);
                  const auto dresidual = g.wants(3);
                  Tensor both = empty({2 * channels}, dtype, mean.device());
                  const Tensor own_gamma = both.alias({channels}),
                               own_beta = both.alias({channels}, channels);
                  call(kernels::batch_norm_inference_backward, queue,
                       {.x = x.view(),
                        .y = saved_y.view(),
                        .dy = g.output(),
                        .gamma = gamma.view(),
                        .running_mean = mean.view(),
                        .running_var = var.view(),
                        .dx = dx ? dx->view : kernels::View{},
                        .dresidual = dresidual ? dresidual->view : kernels::View{},
                        .dgamma = own_gamma.out(),
                        .dbeta = own_beta.out(),
                        .dx_write = dx ? dx->write : kernels::Write::assign,
                        .dresidual_write = dresidual ? dresidual->write : kernels::Write::assign,
                        .param_write = kernels::Write::assign,
                        .eps = eps,
                        .activation = activation});
                  if (dgamma) call(kernels::cast, queue, {own_gamma.view(), dgamma->view, dgamma->write});
                  if (dbeta) call(kernels::cast, queue, {own_beta.view(), dbeta->view, dbeta->write});
                  sum_up(both);
                  if (!dx || !counts) return;  // the statistics do not depend on what does not count
                  call(kernels::batch_norm_correction, queue,
                       {.x = x.view(),
                        .gamma = gamma.view(),
                        .mean = mean.view(),
                        .var = var.view(),
                        .dgamma = own_gamma.view(),
                        .dbeta = own_beta.view(),
                        .sums = sums.view(),
                        .dx = dx->view,
                        .eps = eps});
                });
}

// y = act(gamma * (x - running_mean) / sqrt(running_var + eps) + beta + residual). Saves x and y.
Tensor batch_norm_inference(const Tensor& x, const BatchNormTensors& bn, const Tensor& residual,
                            Activation activation, float eps) {
  constexpr const char* kOp = "batch_norm_inference";
  check_arguments(kOp, x, bn, residual, true);
  Tensor y = empty_like(x);
  call(kernels::batch_norm_inference, x.queue(),
       {.x = x.view(),
        .gamma = bn.gamma.view(),
        .beta = bn.beta.view(),
        .running_mean = bn.running_mean.view(),
        .running_var = bn.running_var.view(),
        .residual = residual.view(),
        .y = y.out(),
        .eps = eps,
        .activation = activation});
  if (!wants_grad({&x, &bn.gamma, &bn.beta, &residual})) return y;
  return record(
      kOp, y, {x, bn.gamma, bn.beta, residual},
      [x = Saved(x), gamma = Saved(bn.gamma), mean = Saved(bn.running_mean), var = Saved(bn.running_var),
       saved_y = activation == Activation::relu ? Saved(y) : Saved(), activation, eps](Grads& g) {
        const kernels::Queue& queue = g.output_tensor().queue();
        const auto dx = g.wants(0);
        const auto dgamma = g.wants(1);
        const auto dbeta = g.wants(2);
        const auto dresidual = g.wants(3);
        const auto spare = [&] {
          return zeros(gamma.tensor().shape(), gamma.tensor().dtype(), gamma.tensor().device());
        };
        Tensor unwanted_gamma = dgamma ? Tensor() : spare();
        Tensor unwanted_beta = dbeta ? Tensor() : spare();
        call(kernels::batch_norm_inference_backward, queue,
             {.x = x.view(),
              .y = saved_y.view(),
              .dy = g.output(),
              .gamma = gamma.view(),
              .running_mean = mean.view(),
              .running_var = var.view(),
              .dx = dx ? dx->view : kernels::View{},
              .dresidual = dresidual ? dresidual->view : kernels::View{},
              .dgamma = dgamma ? dgamma->view : unwanted_gamma.out(),
              .dbeta = dbeta ? dbeta->view : unwanted_beta.out(),
              .dx_write = dx ? dx->write : kernels::Write::assign,
              .dresidual_write = dresidual ? dresidual->write : kernels::Write::assign,
              .param_write = dgamma  ? dgamma->write
                             : dbeta ? dbeta->write
                                     : kernels::Write::assign,
              .eps = eps,
              .activation = activation});
      });
}

}  // namespace cairn
