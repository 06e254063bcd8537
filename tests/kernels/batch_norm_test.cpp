#include "kernels/batch_norm.h"

#include "kernels/cpu/parallel.h"
#include "tests/kernels/sums.h"

namespace cairn::kernels {
namespace {

using Values = std::vector<double>;

double at(const Values& v, std::int64_t i) { return v[static_cast<std::size_t>(i)]; }

/// Batch norm in double, two passes, one channel after the other.
struct Oracle {
  std::int64_t channels, pixels;
  Values mean, var, inv_std, y;

  Oracle(const Shape& shape, const Values& x, const Values& gamma, const Values& beta, double eps) {
    channels = shape[shape.rank - 1];
    pixels = shape.numel() / channels;
    y = x;
    for (std::int64_t c = 0; c < channels; ++c) {
      double m = 0, v = 0;
      for (std::int64_t i = 0; i < pixels; ++i) m += at(x, i * channels + c);
      m /= static_cast<double>(pixels);
      for (std::int64_t i = 0; i < pixels; ++i) v += std::pow(at(x, i * channels + c) - m, 2);
      v /= static_cast<double>(pixels);
      mean.push_back(m);
      var.push_back(v);
      inv_std.push_back(1 / std::sqrt(v + eps));
      for (std::int64_t i = 0; i < pixels; ++i)
        y[static_cast<std::size_t>(i * channels + c)] =
            at(gamma, c) * (at(x, i * channels + c) - m) * inv_std.back() + at(beta, c);
    }
  }
};

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> all = {{2, 5, 3, 64}, {3, 7, 7, 1},    {2, 6, 5, 3},   {5, 3, 1, 7},
                                         {2, 9, 2, 33}, {4, 100},        {6, 8, 8, 8},   {2, 1},
                                         {1, 1, 2, 5},  {2, 13, 11, 16}, {3, 5, 3, 130}, {2, 17, 18, 64}};
  return all;
}

class BatchNormTest : public KernelTest {
 protected:
  DType params() const { return parameter_dtype(dtype()); }
  /// Rounding of what is kept in the compute type; in double the oracle's own sums err as much as the
  /// kernel's.
  double kept() const { return dtype() == DType::f64 ? 0x1p-44 : 0x1p-24; }
  double out() const { return rounding_of(dtype()); }
};

TEST_P(BatchNormTest, Forward) {
  const float eps = 1e-3f, momentum = 0.3f;
  for (const Shape& shape : shapes()) {
    const Shape cs{shape[shape.rank - 1]};
    const Values x = random_values(dtype(), shape, 1, -2, 3), residual = random_values(dtype(), shape, 2);
    const Values gamma = random_values(params(), cs, 3, 0.5, 2), beta = random_values(params(), cs, 4);
    const Values running = random_values(params(), cs, 5, 0.5, 1);
    const Oracle o(shape, x, gamma, beta, static_cast<double>(eps));
    const Buffer xb(dtype(), shape, x), rb(dtype(), shape, residual), gb(params(), cs, gamma),
        bb(params(), cs, beta);
    for (int variant = 0; variant < 5; ++variant) {
      const bool has_residual = variant & 1, relu = variant & 2, in_place = variant == 4;
      Buffer y = in_place ? xb.copy() : Buffer(dtype(), shape);
      Buffer mean(params(), cs), inv_std(params(), cs);
      Buffer running_mean(params(), cs, running), running_var(params(), cs, running);
      const BatchNormForward args{.x = in_place ? y.in() : xb.in(),
                                  .gamma = gb.in(),
                                  .beta = bb.in(),
                                  .residual = has_residual ? rb.in() : ConstView{},
                                  .y = y.view(),
                                  .mean = mean.view(),
                                  .inv_std = inv_std.view(),
                                  .running_mean = running_mean.view(),
                                  .running_var = running_var.view(),
                                  .momentum = momentum,
                                  .eps = eps,
                                  .activation = relu ? Activation::relu : Activation::none};
      run(batch_norm_forward, args);
      Values want = o.y, want_mean = running, want_var = running;
      for (std::size_t i = 0; i < want.size(); ++i) {
        if (has_residual) want[i] += residual[i];
        if (relu) want[i] = std::max(want[i], 0.0);
      }
      const auto n = static_cast<double>(o.pixels);
      for (std::size_t c = 0; c < want_mean.size(); ++c) {
        want_mean[c] += static_cast<double>(momentum) * (o.mean[c] - running[c]);
        want_var[c] += static_cast<double>(momentum) * (o.var[c] * n / (n - 1) - running[c]);
      }
      const std::string what = to_string(shape) + " variant " + std::to_string(variant);
      // Sums of 8 in the kept precision, wider beyond: a few roundings of values up to 3.
      expect_close(mean, o.mean, 0, 16 * kept(), what + " mean");
      for (std::int64_t c = 0; c < cs[0]; ++c)
        ASSERT_NEAR(inv_std.at(c) / at(o.inv_std, c), 1, 16 * kept()) << what << " inv_std, channel " << c;
      expect_close(running_mean, want_mean, 0, 16 * kept(), what + " running mean");
      expect_close(running_var, want_var, 32 * kept(), 32 * kept(), what + " running var");
      // |scale x| and |shift| are below 2 * 32 (inv_std at most eps^-1/2) * 3; where the variance is not
      // tiny, far below.
      expect_within(
          y, want,
          [&](std::size_t i) {
            const double scale = 2 * at(o.inv_std, static_cast<std::int64_t>(i) % cs[0]);
            return out() * std::abs(want[i]) + 64 * kept() * (1 + 3 * scale) + 1e-300;
          },
          what);
    }
  }
}

// A mean of 1000 and a deviation of 1: the sum of squares has lost the variance in fp32.
TEST_P(BatchNormTest, AMeanFarFromZeroCostsNoPrecision) {
  if (dtype() != DType::f32) GTEST_SKIP() << "bf16 holds no such values, fp64 is kept no wider";
  const Shape shape{4, 50, 50, 24}, cs{24};
  Values x = random_values(dtype(), shape, 1, -1.7, 1.7);
  for (double& v : x) v = rounded(dtype(), v + 1000);
  // The first rows lie elsewhere, so that a shift taken from them would not do.
  for (std::size_t i = 0; i < 41 * 24; ++i) x[i] += 20;
  const Values gamma(24, 1.0), beta(24, 0.0);
  const Oracle o(shape, x, gamma, beta, 1e-5);
  const Buffer xb(dtype(), shape, x), gb(params(), cs, gamma), bb(params(), cs, beta);
  Buffer y(dtype(), shape), mean(params(), cs), inv_std(params(), cs);
  run(batch_norm_forward, {.x = xb.in(),
                           .gamma = gb.in(),
                           .beta = bb.in(),
                           .residual = {},
                           .y = y.view(),
                           .mean = mean.view(),
                           .inv_std = inv_std.view(),
                           .running_mean = {},
                           .running_var = {}});
  expect_close(mean, o.mean, 4 * kept(), 0, "mean");
  // Of the mean's rounding (1000 * 2^-24) only the square reaches the variance.
  expect_close(inv_std, o.inv_std, 64 * kept(), 0, "inv_std");
}

TEST_P(BatchNormTest, ConstantInputHasNoVariance) {
  const Shape shape{3, 5, 7, 20}, cs{20};
  const Buffer x(dtype(), shape, Values(static_cast<std::size_t>(shape.numel()), 700)),
      gamma(params(), cs, Values(20, 1)), beta(params(), cs, Values(20, 0.5));
  Buffer y(dtype(), shape), mean(params(), cs), inv_std(params(), cs);
  run(batch_norm_forward, {.x = x.in(),
                           .gamma = gamma.in(),
                           .beta = beta.in(),
                           .residual = {},
                           .y = y.view(),
                           .mean = mean.view(),
                           .inv_std = inv_std.view(),
                           .running_mean = {},
                           .running_var = {}});
  const auto eps = static_cast<double>(1e-5f);
  expect_close(inv_std, Values(20, 1 / std::sqrt(eps)), 8 * kept(), 0, "inv_std");
}

TEST_P(BatchNormTest, Inference) {
  const float eps = 1e-2f;
  for (const Shape& shape : shapes()) {
    const Shape cs{shape[shape.rank - 1]};
    const Values x = random_values(dtype(), shape, 1, -2, 3), residual = random_values(dtype(), shape, 2);
    const Values gamma = random_values(params(), cs, 3, 0.5, 2), beta = random_values(params(), cs, 4);
    const Values mean = random_values(params(), cs, 5), var = random_values(params(), cs, 6, 0.5, 2);
    const Buffer xb(dtype(), shape, x), rb(dtype(), shape, residual), gb(params(), cs, gamma),
        bb(params(), cs, beta), mb(params(), cs, mean), vb(params(), cs, var);
    for (int variant = 0; variant < 4; ++variant) {
      Buffer y(dtype(), shape);
      run(batch_norm_inference, {.x = xb.in(),
                                 .gamma = gb.in(),
                                 .beta = bb.in(),
                                 .running_mean = mb.in(),
                                 .running_var = vb.in(),
                                 .residual = variant & 1 ? rb.in() : ConstView{},
                                 .y = y.view(),
                                 .eps = eps,
                                 .activation = variant & 2 ? Activation::relu : Activation::none});
      Values want = x;
      for (std::size_t i = 0; i < want.size(); ++i) {
        const std::size_t c = i % mean.size();
        want[i] = gamma[c] * (x[i] - mean[c]) / std::sqrt(var[c] + static_cast<double>(eps)) + beta[c];
        if (variant & 1) want[i] += residual[i];
        if (variant & 2) want[i] = std::max(want[i], 0.0);
      }
      expect_close(y, want, out(), 64 * kept(), to_string(shape) + " variant " + std::to_string(variant));
    }
  }
}

struct BackwardCase {
  bool relu, residual, add, alias_dx, alias_dresidual, no_dx;
};

TEST_P(BatchNormTest, Backward) {
  const std::vector<BackwardCase> cases = {
      {false, false, false, false, false, false}, {true, false, false, false, false, false},
      {true, true, false, false, false, false},   {true, true, true, false, false, false},
      {false, true, true, false, false, false},   {true, false, false, true, false, false},
      {true, true, false, true, false, false},    {true, true, false, false, true, false},
      {true, true, false, false, false, true}};
  for (const bool inference : {false, true}) {
    for (const Shape& shape : shapes()) {
      const Shape cs{shape[shape.rank - 1]};
      const float eps = 1e-2f;
      const Values x = random_values(dtype(), shape, 1, -2, 2), residual = random_values(dtype(), shape, 2);
      const Values gamma = random_values(params(), cs, 3, 0.5, 1), beta = random_values(params(), cs, 4);
      const Values dy = random_values(dtype(), shape, 7), before = random_values(dtype(), shape, 8);
      const Values params_before = random_values(params(), cs, 9);
      Oracle o(shape, x, gamma, beta, static_cast<double>(eps));
      if (inference) {
        o.mean = random_values(params(), cs, 10);
        o.var = random_values(params(), cs, 11, 0.5, 2);
      }
      const Buffer xb(dtype(), shape, x), rb(dtype(), shape, residual), gb(params(), cs, gamma),
          bb(params(), cs, beta);
      const auto m = static_cast<double>(o.pixels);
      for (const BackwardCase& k : cases) {
        // Mean, inv_std and y as the forward kernel leaves them.
        Buffer y(dtype(), shape), mean(params(), cs, o.mean), var(params(), cs, o.var), inv_std(params(), cs);
        const Activation activation = k.relu ? Activation::relu : Activation::none;
        const ConstView residual_view = k.residual ? rb.in() : ConstView{};
        if (inference) {
          run(batch_norm_inference,
              {xb.in(), gb.in(), bb.in(), mean.in(), var.in(), residual_view, y.view(), eps, activation});
        } else {
          run(batch_norm_forward, {.x = xb.in(),
                                   .gamma = gb.in(),
                                   .beta = bb.in(),
                                   .residual = residual_view,
                                   .y = y.view(),
                                   .mean = mean.view(),
                                   .inv_std = inv_std.view(),
                                   .running_mean = {},
                                   .running_var = {},
                                   .eps = eps,
                                   .activation = activation});
        }
        Values want_dx = dy, g = dy, want_dgamma(gamma.size()), want_dbeta(gamma.size()), r(gamma.size());
        for (std::size_t c = 0; c < r.size(); ++c)
          r[c] = inference ? 1 / std::sqrt(o.var[c] + static_cast<double>(eps)) : o.inv_std[c];
        for (std::size_t i = 0; i < dy.size(); ++i) {
          const std::size_t c = i % gamma.size();
          if (k.relu && !(y.at(static_cast<std::int64_t>(i)) > 0)) g[i] = 0;
          want_dbeta[c] += g[i];
          want_dgamma[c] += g[i] * (x[i] - o.mean[c]) * r[c];
        }
        for (std::size_t i = 0; i < dy.size(); ++i) {
          const std::size_t c = i % gamma.size();
          const double xhat = (x[i] - o.mean[c]) * r[c];
          want_dx[i] =
              gamma[c] * r[c] * (inference ? g[i] : g[i] - want_dbeta[c] / m - xhat * want_dgamma[c] / m);
          if (k.add) want_dx[i] += before[i];
        }
        const Write write = k.add ? Write::add : Write::assign;
        Buffer dyb(dtype(), shape, dy), dx(dtype(), shape, before), dres(dtype(), shape, before);
        Buffer dgamma(params(), cs, params_before), dbeta(params(), cs, params_before);
        const View dx_view = k.no_dx ? View{} : k.alias_dx ? dyb.view() : dx.view();
        const View dres_view = !k.residual ? View{} : k.alias_dresidual ? dyb.view() : dres.view();
        const bool give_y = inference ? k.relu : k.residual && k.relu;
        if (inference) {
          run(batch_norm_inference_backward, {.x = xb.in(),
                                              .y = give_y ? y.in() : ConstView{},
                                              .dy = dyb.in(),
                                              .gamma = gb.in(),
                                              .running_mean = mean.in(),
                                              .running_var = var.in(),
                                              .dx = dx_view,
                                              .dresidual = dres_view,
                                              .dgamma = dgamma.view(),
                                              .dbeta = dbeta.view(),
                                              .dx_write = write,
                                              .dresidual_write = write,
                                              .param_write = write,
                                              .eps = eps,
                                              .activation = activation});
        } else {
          run(batch_norm_backward, {.x = xb.in(),
                                    .y = give_y ? y.in() : ConstView{},
                                    .dy = dyb.in(),
                                    .gamma = gb.in(),
                                    .beta = bb.in(),
                                    .mean = mean.in(),
                                    .inv_std = inv_std.in(),
                                    .dx = dx_view,
                                    .dresidual = dres_view,
                                    .dgamma = dgamma.view(),
                                    .dbeta = dbeta.view(),
                                    .dx_write = write,
                                    .dresidual_write = write,
                                    .param_write = write,
                                    .activation = activation});
        }
        const std::string what = to_string(shape) + (inference ? " inference" : "") +
                                 (k.relu ? " relu" : "") + (k.residual ? " residual" : "") +
                                 (k.add ? " add" : "") + (k.alias_dx ? " dx = dy" : "") +
                                 (k.alias_dresidual ? " dresidual = dy" : "");
        const double length = std::sqrt(m);
        if (!k.no_dx)
          expect_within(
              k.alias_dx ? dyb : dx, want_dx,
              [&](std::size_t i) {
                const double size = 1 + 3 * r[i % r.size()] * r[i % r.size()];
                return 2 * out() * (std::abs(want_dx[i]) + (k.add ? 1 : 0)) + 32 * kept() * size;
              },
              what + " dx");
        if (k.residual)
          expect_close(k.alias_dresidual ? dyb : dres, k.add ? added(g, before) : g, out(), 1e-300,
                       what + " dresidual");
        for (std::size_t c = 0; c < gamma.size(); ++c) {
          if (!k.add) continue;
          want_dgamma[c] += params_before[c];
          want_dbeta[c] += params_before[c];
        }
        // dgamma also carries the rounding of the mean and inv_std that were handed in.
        expect_close(dbeta, want_dbeta, 4 * kept(), 16 * kept() * length, what + " dbeta");
        expect_within(
            dgamma, want_dgamma,
            [&](std::size_t c) {
              return 8 * kept() * std::abs(want_dgamma[c]) +
                     32 * kept() * r[c] * (length + std::abs(want_dbeta[c]));
            },
            what + " dgamma");
      }
    }
  }
}

TEST_P(BatchNormTest, TwoRunsAgreeToTheBitOnSeveralThreads) {
  const int threads = num_threads();
  set_num_threads(3);
  const Shape shape{4, 40, 41, 24}, cs{24};
  const Buffer x = grid(dtype(), shape, 1), dy = grid(dtype(), shape, 2), gamma = grid(params(), cs, 3),
               beta = grid(params(), cs, 4);
  const auto once = [&](Buffer& y, Buffer& dx, Buffer& dgamma) {
    Buffer mean(params(), cs), inv_std(params(), cs), dbeta(params(), cs);
    run(batch_norm_forward, {.x = x.in(),
                             .gamma = gamma.in(),
                             .beta = beta.in(),
                             .residual = {},
                             .y = y.view(),
                             .mean = mean.view(),
                             .inv_std = inv_std.view(),
                             .running_mean = {},
                             .running_var = {},
                             .activation = Activation::relu});
    run(batch_norm_backward, {.x = x.in(),
                              .y = {},
                              .dy = dy.in(),
                              .gamma = gamma.in(),
                              .beta = beta.in(),
                              .mean = mean.in(),
                              .inv_std = inv_std.in(),
                              .dx = dx.view(),
                              .dresidual = {},
                              .dgamma = dgamma.view(),
                              .dbeta = dbeta.view(),
                              .activation = Activation::relu});
  };
  Buffer y(dtype(), shape), dx(dtype(), shape), dgamma(params(), cs);
  Buffer y2(dtype(), shape), dx2(dtype(), shape), dgamma2(params(), cs);
  once(y, dx, dgamma);
  once(y2, dx2, dgamma2);
  set_num_threads(threads);
  EXPECT_TRUE(y.same_bits(y2) && dx.same_bits(dx2) && dgamma.same_bits(dgamma2));
}

INSTANTIATE_TEST_SUITE_P(Cpu, BatchNormTest, kernel_cases(), kernel_case_name);

}  // namespace
}  // namespace cairn::kernels
