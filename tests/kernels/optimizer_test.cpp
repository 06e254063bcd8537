#include "kernels/optimizer.h"

#include "tests/kernels/kernel_test.h"

namespace cairn::kernels {
namespace {

class Optimizer : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, Optimizer, kernel_cases({DType::f32, DType::f64}), kernel_case_name);

using Values = std::vector<double>;
double wide(float v) { return static_cast<double>(v); }

// torch.nn.utils.clip_grad_norm_ behind the loss scale.
double factor(const StepScalars& s, double norm, float max_norm) {
  const double scale = wide(s.grad_scale);
  return max_norm > 0 ? scale * std::min(1.0, wide(max_norm) / (scale * norm + 1e-6)) : scale;
}

struct Sgd {
  float momentum, weight_decay;
  bool nesterov;
  float max_norm;
};

TEST_P(Optimizer, SgdAsTorch) {
  const double eps = rounding_of(dtype());
  for (const Sgd& o : {Sgd{0, 0, false, 0}, Sgd{0, 0.01f, false, 1.0f}, Sgd{0.9f, 0, false, 0},
                       Sgd{0.9f, 5e-4f, true, 0}, Sgd{0.9f, 5e-4f, false, 10.0f}})
    for (std::int64_t n : kLengths) {
      Buffer p = grid(dtype(), {n}, 1), b(dtype(), {n}, Values(static_cast<std::size_t>(n), 0.0)),
             shadow(DType::bf16, {n});
      Values want = p.values(), buffer(want.size(), 0.0);
      for (int step = 0; step < 5; ++step) {
        const Buffer g = grid(dtype(), {n}, static_cast<std::uint32_t>(10 + step));
        const StepScalars s{0.1f / static_cast<float>(step + 1), 1, 1, 0.5f};
        const double norm = 4.0 + step;
        const Buffer grad_norm(DType::f32, {1}, {norm});
        SgdStep a;
        a.param = p.view();
        a.grad = g.in();
        if (o.momentum > 0) a.momentum_buffer = b.view();
        a.shadow = shadow.view();
        a.scalars = &s;
        a.grad_norm = grad_norm.in();
        a.max_norm = o.max_norm;
        a.momentum = o.momentum;
        a.weight_decay = o.weight_decay;
        a.nesterov = o.nesterov;
        run(sgd_step, a);
        for (std::size_t i = 0; i < want.size(); ++i) {
          double d = factor(s, norm, o.max_norm) * g.at(static_cast<std::int64_t>(i)) +
                     wide(o.weight_decay) * want[i];
          if (o.momentum > 0) {
            buffer[i] = wide(o.momentum) * buffer[i] + d;  // the first one starts from 0: b = g
            d = o.nesterov ? d + wide(o.momentum) * buffer[i] : buffer[i];
          }
          want[i] -= wide(s.lr) * d;
        }
      }
      expect_close(p, want, 0, 5 * 8 * 4 * eps, "SGD, n " + std::to_string(n));
      for (std::int64_t i = 0; i < n && dtype() == DType::f32; ++i)
        ASSERT_EQ(shadow.at(i), wide(static_cast<float>(BFloat16(static_cast<float>(p.at(i))))));
    }
}

struct Adam {
  float beta1, beta2, weight_decay;
  bool decoupled;
  float max_norm;
};

// Adam divides m by sqrt(v): a gradient near 0 has no accurate quotient. These stay away from it.
Buffer away_from_zero(DType t, std::int64_t n, std::uint32_t seed) {
  Buffer g = grid(t, {n}, seed, 0.5, 3);
  for (std::int64_t i = 0; i < n; ++i)
    if ((i + seed) % 3 == 0) g.set(i, -g.at(i));
  return g;
}

TEST_P(Optimizer, AdamAsTorch) {
  const double eps = rounding_of(dtype());
  for (const Adam& o : {Adam{0.9f, 0.999f, 0, false, 0}, Adam{0.9f, 0.99f, 0.01f, false, 2.0f},
                        Adam{0.8f, 0.999f, 0.05f, true, 0}})
    for (std::int64_t n : kLengths) {
      const Values zeros(static_cast<std::size_t>(n), 0.0);
      Buffer p = grid(dtype(), {n}, 1), m(dtype(), {n}, zeros), v(dtype(), {n}, zeros),
             shadow(DType::f16, {n});
      Values want = p.values(), first = zeros, second = zeros;
      for (int step = 1; step <= 5; ++step) {
        const Buffer g = away_from_zero(dtype(), n, static_cast<std::uint32_t>(10 + step));
        StepScalars s;
        s.lr = 1e-2f;
        s.bias_correction1 = 1 - std::pow(o.beta1, static_cast<float>(step));
        s.bias_correction2 = 1 - std::pow(o.beta2, static_cast<float>(step));
        s.grad_scale = 0.25f;
        const Buffer grad_norm(DType::f32, {1}, {20.0});
        AdamStep a;
        a.param = p.view();
        a.grad = g.in();
        a.exp_avg = m.view();
        a.exp_avg_sq = v.view();
        a.shadow = shadow.view();
        a.scalars = &s;
        a.grad_norm = grad_norm.in();
        a.max_norm = o.max_norm;
        a.beta1 = o.beta1;
        a.beta2 = o.beta2;
        a.weight_decay = o.weight_decay;
        a.decoupled = o.decoupled;
        run(adam_step, a);
        for (std::size_t i = 0; i < want.size(); ++i) {
          double d = factor(s, 20.0, o.max_norm) * g.at(static_cast<std::int64_t>(i));
          if (o.decoupled)
            want[i] *= 1 - wide(s.lr) * wide(o.weight_decay);
          else
            d += wide(o.weight_decay) * want[i];
          first[i] = wide(o.beta1) * first[i] + (1 - wide(o.beta1)) * d;
          second[i] = wide(o.beta2) * second[i] + (1 - wide(o.beta2)) * d * d;
          want[i] -= wide(s.lr) / wide(s.bias_correction1) * first[i] /
                     (std::sqrt(second[i]) / std::sqrt(wide(s.bias_correction2)) + wide(a.eps));
        }
      }
      const std::string what = "n " + std::to_string(n);
      expect_close(p, want, 0, 5 * 8 * 4 * eps, "Adam, " + what);
      expect_close(m, first, 40 * eps, 40 * eps, "exp_avg, " + what);
      expect_close(v, second, 40 * eps, 40 * eps, "exp_avg_sq, " + what);
      for (std::int64_t i = 0; i < n && dtype() == DType::f32; ++i)
        ASSERT_EQ(shadow.at(i), wide(static_cast<float>(Float16(static_cast<float>(p.at(i))))));
    }
}

// One step with a group's factor is, bit for bit, a step at the rate that the product is.
TEST_P(Optimizer, TheGroupsFactorMultipliesTheRate) {
  for (std::int64_t n : kLengths) {
    const StepScalars scaled{0.25f, 0.5f, 0.75f, 1}, plain{0.125f, 0.5f, 0.75f, 1};
    const Buffer g = grid(dtype(), {n}, 2);
    const auto sgd = [&](const StepScalars& s, float lr_scale) {
      Buffer p = grid(dtype(), {n}, 1);
      SgdStep a;
      a.param = p.view();
      a.grad = g.in();
      a.scalars = &s;
      a.lr_scale = lr_scale;
      run(sgd_step, a);
      return p;
    };
    EXPECT_TRUE(sgd(scaled, 0.5f).same_bits(sgd(plain, 1.0f)));
    const auto adam = [&](const StepScalars& s, float lr_scale) {
      Buffer p = grid(dtype(), {n}, 1), m = grid(dtype(), {n}, 3), v = grid(dtype(), {n}, 4, 0, 1);
      AdamStep a;
      a.param = p.view();
      a.grad = g.in();
      a.exp_avg = m.view();
      a.exp_avg_sq = v.view();
      a.scalars = &s;
      a.lr_scale = lr_scale;
      a.weight_decay = 0.1f;
      a.decoupled = true;
      run(adam_step, a);
      return p;
    };
    EXPECT_TRUE(adam(scaled, 0.5f).same_bits(adam(plain, 1.0f)));
  }
}

TEST_P(Optimizer, MovingAverage) {
  const double eps = rounding_of(dtype());
  for (const float decay : {0.0f, 0.5f, 0.999f})
    for (std::int64_t n : kLengths) {
      Buffer average = grid(dtype(), {n}, 1);
      Values want = average.values();
      for (int step = 1; step <= 40; ++step) {
        const Buffer p = grid(dtype(), {n}, static_cast<std::uint32_t>(10 + step));
        StepScalars s;
        s.step = step;
        EmaStep a;
        a.average = average.view();
        a.param = p.in();
        a.scalars = &s;
        a.decay = decay;
        run(ema_step, a);
        const double d = std::min(wide(decay), (1.0 + step) / (10.0 + step));
        for (std::size_t i = 0; i < want.size(); ++i)
          want[i] = d * want[i] + (1 - d) * p.at(static_cast<std::int64_t>(i));
      }
      // Each step rounds twice what earlier steps' errors shrink with: less than the sum of 40 steps.
      expect_close(average, want, 0, 40 * 4 * eps, "decay " + std::to_string(decay));
    }
}

TEST_P(Optimizer, NothingMovesAfterANonFiniteGradient) {
  const StepScalars s{0.1f, 1, 1, 1};
  for (int flag : {0, 1}) {
    Buffer p = grid(dtype(), {100}, 1), g = grid(dtype(), {100}, 2), m = grid(dtype(), {100}, 3);
    Buffer v = grid(dtype(), {100}, 4, 0, 1), nonfinite(DType::i32, {1}, {static_cast<double>(flag)});
    const Buffer p0 = p.copy(), m0 = m.copy(), v0 = v.copy();
    SgdStep sgd;
    sgd.param = p.view();
    sgd.grad = g.in();
    sgd.momentum_buffer = m.view();
    sgd.scalars = &s;
    sgd.nonfinite = nonfinite.in();
    run(sgd_step, sgd);
    EXPECT_EQ(p.same_bits(p0), flag == 1);
    EXPECT_EQ(m.same_bits(m0), flag == 1);
    AdamStep adam;
    adam.param = p.view();
    adam.grad = g.in();
    adam.exp_avg = m.view();
    adam.exp_avg_sq = v.view();
    adam.scalars = &s;
    adam.nonfinite = nonfinite.in();
    run(adam_step, adam);
    EXPECT_EQ(p.same_bits(p0), flag == 1);
    EXPECT_EQ(v.same_bits(v0), flag == 1);
    EmaStep ema;
    ema.average = m.view();
    ema.param = v.in();
    ema.scalars = &s;
    ema.nonfinite = nonfinite.in();
    const Buffer m1 = m.copy();
    run(ema_step, ema);
    EXPECT_EQ(m.same_bits(m1), flag == 1);
  }
}

class CheckFiniteKernel : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, CheckFiniteKernel, kernel_cases(), kernel_case_name);

TEST_P(CheckFiniteKernel, FindsOneBadElementAnywhere) {
  for (std::int64_t n : kLengths) {
    Buffer x = grid(dtype(), {n}, 1), flag(DType::i32, {1}, {0});
    if (n > 0) x.set(n / 2, 1e38);  // large is not infinite
    run(check_finite, {x.in(), flag.view()});
    EXPECT_EQ(flag.at(0), 0) << n;
    for (std::int64_t at : {std::int64_t{0}, n / 3, n - 1})
      for (double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
        if (n == 0) continue;
        Buffer y = x.copy();
        y.set(at, bad);
        Buffer found(DType::i32, {1}, {0});
        run(check_finite, {y.in(), found.view()});
        ASSERT_EQ(found.at(0), 1) << n << " elements, bad one at " << at;
      }
    flag.set(0, 1);
    run(check_finite, {x.in(), flag.view()});
    EXPECT_EQ(flag.at(0), 1) << "a set flag stays";
  }
}

}  // namespace
}  // namespace cairn::kernels
