// Optimisers, loss scale, norms, long reductions and losses of many classes.
#include <cstring>

#include "kernels/optimizer.h"
#include "kernels/reduce.h"
#include "kernels/step_guard.h"
#include "tests/emu/kernels/kernel_run.h"
#include "tests/reference.h"

namespace cairn {
namespace {

using kernels::ReduceOp;
using kernels::StepScalars;
using kernels::Write;

const OwnMemory kOwnMemory;

constexpr double kEps = 0x1p-24;  // parameters are fp32
double wide(float v) { return static_cast<double>(v); }

Tensor on_device(const StepScalars& s) {
  std::vector<std::uint8_t> bytes(sizeof s);
  std::memcpy(bytes.data(), &s, sizeof s);
  return from_values<std::uint8_t>({static_cast<std::int64_t>(bytes.size())}, bytes, kEmulated);
}
const StepScalars* scalars_of(const Tensor& t) { return static_cast<const StepScalars*>(t.view().data); }
Tensor flag(std::int32_t value) {
  const std::vector<std::int32_t> v = {value};
  return from_values<std::int32_t>({1}, v, kEmulated);
}

constexpr std::int64_t kParameters = 37;
constexpr StepScalars kScalars{0.05f, 0.271f, 0.002997f, 0.5f, 3};

/// p, g and the state of an optimiser, on 16 bytes or off them.
struct Parameters {
  explicit Parameters(int shift, DType shadow_type = DType::bf16)
      : p(placed({kParameters}, eighths(kParameters, 1), DType::f32, shift)),
        g(placed({kParameters}, eighths(kParameters, 2), DType::f32, shift)),
        shadow(placed({kParameters}, eighths(kParameters, 3), shadow_type, 0)) {}
  Tensor p, g, shadow;
  Tensor scalars = on_device(kScalars);
  Tensor norm = full({1}, 9.0, DType::f32, kEmulated);

  template <class Args>
  void fill(Args& a) const {
    a.param = p.inplace();
    a.grad = g.view();
    a.scalars = scalars_of(scalars);
    a.grad_norm = norm.view();
    a.max_norm = 1.0f;
    a.lr_scale = 0.5f;
  }
  static double gradient(std::size_t i) {
    const double scale = 0.5;
    return scale * std::min(1.0, 1.0 / (scale * 9.0 + 1e-6)) * eighths(kParameters, 2)[i];
  }
};

class OptimizerRun : public KernelRun, public testing::WithParamInterface<int> {};

TEST_P(OptimizerRun, Sgd) {
  for (const bool momentum : {false, true})
    for (const bool skipped : {false, true})
      for (const DType shadow_type : {DType::bf16, DType::f16}) {
        const Parameters all(GetParam(), shadow_type);
        const Tensor b = placed({kParameters}, eighths(kParameters, 4), DType::f32, GetParam());
        const Tensor nonfinite = flag(skipped);
        kernels::SgdStep a;
        all.fill(a);
        a.nonfinite = nonfinite.view();
        if (GetParam() == 0) a.shadow = all.shadow.inplace();
        if (momentum) {
          a.momentum_buffer = b.inplace();
          a.momentum = 0.9f;
          a.nesterov = true;
        }
        a.weight_decay = 0.01f;
        call(kernels::sgd_step, all.p.queue(), a);
        std::vector<double> p = eighths(kParameters, 1), buffer = eighths(kParameters, 4);
        for (std::size_t i = 0; i < p.size() && !skipped; ++i) {
          double d = Parameters::gradient(i) + wide(0.01f) * p[i];
          if (momentum) {
            buffer[i] = wide(0.9f) * buffer[i] + d;
            d += wide(0.9f) * buffer[i];
          }
          p[i] -= wide(0.05f) * 0.5 * d;
        }
        expect("p", all.p.view(), p, 8 * kEps);
        if (momentum) expect("momentum", b.view(), buffer, 8 * kEps);
        if (GetParam() == 0 && !skipped)
          expect("shadow", all.shadow.view(), p, rounding_of(shadow_type) + 8 * kEps);
      }
}

TEST_P(OptimizerRun, Adam) {
  for (const bool decoupled : {false, true}) {
    const Parameters all(GetParam());
    const Tensor m = placed({kParameters}, eighths(kParameters, 4), DType::f32, GetParam());
    std::vector<double> squares = eighths(kParameters, 5);
    for (double& v : squares) v = v * v + 1;
    const Tensor v = placed({kParameters}, squares, DType::f32, GetParam());
    kernels::AdamStep a;
    all.fill(a);
    a.exp_avg = m.inplace();
    a.exp_avg_sq = v.inplace();
    a.weight_decay = 0.01f;
    a.decoupled = decoupled;
    call(kernels::adam_step, all.p.queue(), a);
    std::vector<double> p = eighths(kParameters, 1), mean = eighths(kParameters, 4);
    const double lr = wide(0.05f) * 0.5, b1 = wide(0.9f), b2 = wide(0.999f);
    for (std::size_t i = 0; i < p.size(); ++i) {
      const double g = Parameters::gradient(i) + (decoupled ? 0.0 : wide(0.01f) * p[i]);
      if (decoupled) p[i] *= 1 - lr * wide(0.01f);
      mean[i] = b1 * mean[i] + (1 - b1) * g;
      squares[i] = b2 * squares[i] + (1 - b2) * g * g;
      p[i] -= lr / wide(0.271f) * mean[i] / (std::sqrt(squares[i]) / std::sqrt(wide(0.002997f)) + 1e-8);
    }
    expect("m", m.view(), mean, 8 * kEps);
    // 1 - 0.999f in fp32 is a thousandth to 2^-14 of itself; it weighs g^2.
    expect("v", v.view(), squares, 8 * kEps);
    expect("p", all.p.view(), p, 16 * kEps);
  }
}

TEST_P(OptimizerRun, MovingAverage) {
  for (const float decay : {0.1f, 0.999f}) {  // below and above the ramp, (1 + 3) / (10 + 3)
    const Parameters all(GetParam());
    const Tensor average = placed({kParameters}, eighths(kParameters, 4), DType::f32, GetParam());
    const kernels::EmaStep a{.average = average.inplace(),
                             .param = all.p.view(),
                             .scalars = scalars_of(all.scalars),
                             .nonfinite = {},
                             .decay = decay};
    call(kernels::ema_step, all.p.queue(), a);
    std::vector<double> want = eighths(kParameters, 4);
    const double d = std::min(wide(decay), 4.0 / 13.0);
    for (std::size_t i = 0; i < want.size(); ++i) want[i] += (1 - d) * (eighths(kParameters, 1)[i] - want[i]);
    expect("average", average.view(), want, 8 * kEps);
  }
}
INSTANTIATE_TEST_SUITE_P(CudaEmu, OptimizerRun, testing::Values(0, 1),
                         [](const auto& p) { return p.param == 0 ? "on_16_bytes" : "off_16_bytes"; });

class StepGuardRun : public KernelRun, public testing::WithParamInterface<int> {};
TEST_P(StepGuardRun, SettlesAStep) {
  enum { finite, overflow, no_loss };  // no_loss: it is a NaN, which no scale cures
  const int what = GetParam();
  for (const std::int32_t skipped : {0, 2}) {
    const Tensor scale = full({1}, 1024.0, DType::f32, kEmulated), scalars = on_device(kScalars);
    const Tensor loss = full({1}, what == no_loss ? std::nan("") : 0.75, DType::f32, kEmulated);
    const std::vector<std::int32_t> counts = {1, skipped, 0}, unset = {-1, -1};
    const Tensor counters = from_values<std::int32_t>({3}, counts, kEmulated),
                 nonfinite = flag(what == overflow),
                 report = from_values<std::int32_t>({2}, unset, kEmulated);
    kernels::SettleStep a;
    a.loss = loss.view();
    a.nonfinite = nonfinite.inplace();
    a.counters = counters.inplace();
    a.scale = scale.inplace();
    a.scalars = static_cast<StepScalars*>(scalars.inplace().data);
    a.report = static_cast<kernels::StepReport*>(report.inplace().data);
    a.growth_interval = 2;
    a.beta1 = 0.9f;
    a.beta2 = 0.999f;
    call(kernels::settle_step, scale.queue(), a);
    expect("scale", scale.view(), {what == finite ? 2048.0 : what == overflow ? 512.0 : 1024.0}, 0);
    expect("counters", counters.view(), {0.0, static_cast<double>(skipped + (what == finite ? 0 : 1)), 0.0},
           0);
    expect("nonfinite", nonfinite.view(), {what == finite ? 0.0 : 1.0}, 0);
    const auto field = [](const Tensor& t, std::size_t offset, DType dtype = DType::f32) {
      return kernels::ConstView{static_cast<const std::byte*>(t.view().data) + offset, dtype, Shape{1}};
    };
    expect("outcome", field(report, offsetof(kernels::StepReport, outcome), DType::i32),
           {static_cast<double>(what)}, 0);
    if (what != no_loss) expect("loss", field(report, offsetof(kernels::StepReport, loss)), {0.75}, 0);
    const bool again =
        what == finite && skipped > 0;  // corrections of one step: three, of which two were skipped
    expect("correction 1", field(scalars, offsetof(StepScalars, bias_correction1)),
           {again ? 1 - wide(0.9f) : wide(0.271f)}, kEps);
    expect("correction 2", field(scalars, offsetof(StepScalars, bias_correction2)),
           {again ? 1 - wide(0.999f) : wide(0.002997f)}, kEps);
    expect("gradient's factor", field(scalars, offsetof(StepScalars, grad_scale)), {0.5 / 1024}, 0);
  }
}

TEST_P(StepGuardRun, KeepsOrBringsBackBuffers) {
  const bool taken = GetParam() == 0;
  const std::int64_t sizes[] = {5, 300};
  std::vector<Tensor> values, kept;
  std::vector<kernels::KeptBuffer> table;
  for (const std::int64_t n : sizes) {
    values.push_back(placed({n}, eighths(n, 1), DType::f32, 0));
    kept.push_back(placed({n}, eighths(n, 2), DType::f32, 0));
    table.push_back({static_cast<float*>(values.back().inplace().data),
                     static_cast<float*>(kept.back().inplace().data), n});
  }
  std::vector<std::uint8_t> bytes(table.size() * sizeof table[0]);
  std::memcpy(bytes.data(), table.data(), bytes.size());
  const Tensor buffers =
                   from_values<std::uint8_t>({static_cast<std::int64_t>(bytes.size())}, bytes, kEmulated),
               nonfinite = flag(taken ? 0 : 1);
  call(kernels::keep_buffers, buffers.queue(),
       {static_cast<const kernels::KeptBuffer*>(buffers.view().data), 2, sizes[1], nonfinite.view()});
  for (std::size_t i = 0; i < 2; ++i)
    for (const Tensor& t : {values[i], kept[i]})
      expect("buffer", t.view(), eighths(sizes[i], taken ? 1 : 2), 0);
}
INSTANTIATE_TEST_SUITE_P(CudaEmu, StepGuardRun, testing::Values(0, 1, 2), [](const auto& p) {
  return p.param == 0 ? "finite" : p.param == 1 ? "overflow" : "no_loss";
});

class ReduceRun : public KernelRun, public testing::WithParamInterface<DType> {};

TEST_P(ReduceRun, FindsWhatIsNotFinite) {
  for (const int shift : {0, 1})
    for (const double worst : {1.0, HUGE_VAL, std::nan("")}) {
      std::vector<double> values = eighths(301);
      values[300] = worst;
      const Tensor x = placed({301}, values, GetParam(), shift), found = flag(0);
      call(kernels::check_finite, x.queue(), {x.view(), found.inplace()});
      expect("flag", found.view(), {std::isfinite(worst) ? 0.0 : 1.0}, 0);
    }
}

TEST_P(ReduceRun, Norm) {
  for (const int shift : {0, 1})
    for (const std::int64_t n : {1, 7, 255, 5001}) {
      const Tensor x = placed({n}, eighths(n), GetParam(), shift), norm = empty({1}, DType::f32, kEmulated);
      call(kernels::l2_norm, x.queue(), {x.view(), norm.out()});
      double sum = 0;
      for (const double v : eighths(n)) sum += v * v;
      expect("norm", norm.view(), {std::sqrt(sum)}, kEps);
    }
}

// Ranges long enough to be split among blocks, in each of the forms.
TEST_P(ReduceRun, SplitRanges) {
  struct Form {
    Shape x, y;
    int shift;
  };
  for (const Form& f :
       {Form{{16411}, {1}, 0}, Form{{16411}, {1}, 1}, Form{{600, 64}, {1, 64}, 0},
        Form{{600, 33}, {1, 33}, 1}, Form{{4, 3008}, {4, 1}, 0}, Form{{70, 5, 24}, {1, 5, 1}, 0}})
    for (const ReduceOp op : {ReduceOp::sum, ReduceOp::max}) {
      const Tensor x = placed(f.x, eighths(f.x.numel()), GetParam(), f.shift);
      const Tensor y = placed(f.y, eighths(f.y.numel(), 1), GetParam(), f.shift);
      const std::vector<double> values = eighths(f.x.numel());
      std::vector<double> want(static_cast<std::size_t>(f.y.numel()), op == ReduceOp::sum ? 0.0 : -HUGE_VAL);
      for (std::int64_t i = 0; i < f.x.numel(); ++i) {
        std::int64_t at = 0, stride = 1, rest = i;
        for (int axis = f.x.rank - 1; axis >= 0; --axis) {
          if (f.y[axis] != 1) at += rest % f.x[axis] * stride;
          rest /= f.x[axis];
          stride *= f.y[axis];
        }
        double& w = want[static_cast<std::size_t>(at)];
        const double v = values[static_cast<std::size_t>(i)];
        w = op == ReduceOp::sum ? w + v / 8 : std::max(w, v);
      }
      call(kernels::reduce, x.queue(), {op, x.view(), y.inplace(), op == ReduceOp::sum ? 0.125 : 1.0});
      const std::string what = to_string(f.x) + " to " + to_string(f.y);
      // Sums of eighths are exact in fp32, and only the landing rounds.
      expect(what, y.view(), want, op == ReduceOp::sum ? rounding_of(GetParam()) : 0.0);
    }
}

TEST_P(ReduceRun, NothingIsSummedToZero) {
  const Tensor x = zeros({0, 3}, GetParam(), kEmulated), y = placed({1, 3}, eighths(3), GetParam(), 0);
  call(kernels::reduce, x.queue(), {ReduceOp::sum, x.view(), y.inplace()});
  expect("sums of nothing", y.view(), {0.0, 0.0, 0.0}, 0);
}

// One block a row beyond 1024 classes, one warp below.
TEST_P(ReduceRun, ManyClasses) {
  for (const std::int64_t classes : {70, 1025})
    for (const double gamma : {0.0, 2.0})
      for (const bool weighted : {false, true}) {
        constexpr std::int64_t kRows = 3;
        Tensor z = placed({kRows, classes}, eighths(kRows * classes), GetParam(), 0);
        z.set_requires_grad();
        reference::CrossEntropy o;
        o.focal_gamma = gamma;
        std::vector<std::int32_t> labels;
        for (std::int64_t i = 0; i < kRows; ++i) {
          labels.push_back(static_cast<std::int32_t>((i * 977 + 5) % classes));
          o.labels.push_back(labels.back());
        }
        CrossEntropyOptions options{.focal_gamma = static_cast<float>(gamma)};
        if (weighted) {
          for (std::int64_t c = 0; c < classes; ++c)
            o.class_weights.push_back(0.5 + static_cast<double>(c % 3));
          options.class_weights = from_doubles({classes}, o.class_weights, DType::f32, kEmulated);
        }
        const Tensor loss =
            softmax_cross_entropy(z, from_values<std::int32_t>({kRows}, labels, kEmulated), options);
        reference::Array logits{Shape{kRows, classes}};
        logits.values = eighths(kRows * classes);
        expect("loss", loss.view(), reference::softmax_cross_entropy(logits, o).values, 0x1p-19);
        loss.backward();
        // Its value is held against finite differences by the op cases; here each against the others.
        std::vector<double> p;
        for (std::int64_t r = 0; r < kRows; ++r) {
          double sum = 0;
          for (std::int64_t c = 0; c < classes; ++c)
            sum += std::exp(logits.values[static_cast<std::size_t>(r * classes + c)]);
          for (std::int64_t c = 0; c < classes; ++c)
            p.push_back(std::exp(logits.values[static_cast<std::size_t>(r * classes + c)]) / sum);
        }
        expect("softmax", softmax(z.detach()).view(), p, 0x1p-20);
        if (gamma != 0 || weighted) continue;
        for (std::int64_t r = 0; r < kRows; ++r)
          p[static_cast<std::size_t>(r * classes + labels[static_cast<std::size_t>(r)])] -= 1;
        for (double& v : p) v /= kRows;
        expect("gradient", z.grad().view(), p, 2 * rounding_of(GetParam()) + 0x1p-20);
      }
}
INSTANTIATE_TEST_SUITE_P(CudaEmu, ReduceRun, testing::ValuesIn(kKernelDTypes),
                         [](const auto& p) { return std::string(name_of(p.param)); });

}  // namespace
}  // namespace cairn
