#include "kernels/loss.h"

#include <functional>
#include <limits>
#include <optional>

#include "tests/kernels/kernel_test.h"

namespace cairn::kernels {
namespace {

class Loss : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Cpu, Loss, kernel_cases(), kernel_case_name);

using Values = std::vector<double>;
struct Problem {
  std::string name;
  std::int64_t images, classes;
  double smoothing = 0, gamma = 0;
  bool weighted = false, mixed = false;
  double spread = 3;  // logits in [-spread, spread]
};
const Problem kProblems[] = {
    {"plain", 1, 1},
    {"seven classes", 12, 7},
    {"many classes", 5, 1000},
    {"vector and a bit", 9, 17},
    {"large logits", 12, 7, 0, 0, false, false, 300},
    {"smoothed", 12, 7, 0.1},
    {"weighted", 12, 7, 0, 0, true},
    {"smoothed and weighted", 13, 33, 0.2, 0, true},
    {"mixed", 12, 7, 0, 0, false, true},
    {"mixed, smoothed and weighted", 12, 7, 0.1, 0, true, true},
    {"focal 2", 12, 7, 0, 2},
    {"focal 0.5, weighted", 12, 7, 0, 0.5, true},
    {"many images", 3000, 10, 0.1},
};

struct Data {
  Buffer logits;
  Buffer labels, labels2, lambda, weights;
};
Data make_data(const Problem& p, DType dtype) {
  const Shape n{p.images};
  Data d{grid(dtype, {p.images, p.classes}, 1, -p.spread, p.spread), Buffer(DType::i32, n),
         Buffer(DType::i32, n), grid(DType::f32, n, 2, 0, 1),
         grid(parameter_dtype(dtype), {p.classes}, 3, 0.5, 2)};
  for (std::int64_t i = 0; i < p.images; ++i) {
    d.labels.set(i, static_cast<double>(i * 5 % p.classes));
    d.labels2.set(i, static_cast<double>((i * 3 + 1) % p.classes));
  }
  return d;
}

// l_n for every image, and the weight of the whole batch, from the header's formulas.
Values losses(const Problem& p, const Data& d, const Values& z, double& total_weight) {
  Values l;
  total_weight = 0;
  for (std::int64_t n = 0; n < p.images; ++n) {
    const auto at = [&](std::int64_t c) { return z[static_cast<std::size_t>(n * p.classes + c)]; };
    const auto weight = [&](std::int64_t c) { return p.weighted ? d.weights.at(c) : 1.0; };
    double max = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::int64_t c = 0; c < p.classes; ++c) max = std::max(max, at(c));
    for (std::int64_t c = 0; c < p.classes; ++c) sum += std::exp(at(c) - max);
    const auto log_p = [&](std::int64_t c) { return at(c) - max - std::log(sum); };
    const auto with_label = [&](std::int64_t label) {
      double loss = 0;
      for (std::int64_t c = 0; c < p.classes; ++c) {
        const double t = (c == label ? 1 - p.smoothing : 0) + p.smoothing / static_cast<double>(p.classes);
        if (t != 0) loss -= t * weight(c) * log_p(c);
      }
      if (p.gamma > 0) loss *= std::pow(1 - std::exp(log_p(label)), p.gamma);
      return loss;
    };
    const auto first = static_cast<std::int64_t>(d.labels.at(n)),
               second = static_cast<std::int64_t>(d.labels2.at(n));
    const double lambda = p.mixed ? d.lambda.at(n) : 1.0;
    l.push_back(lambda * with_label(first) + (p.mixed ? (1 - lambda) * with_label(second) : 0));
    total_weight += lambda * weight(first) + (p.mixed ? (1 - lambda) * weight(second) : 0);
  }
  return l;
}
double mean_loss(const Problem& p, const Data& d, const Values& z) {
  double total = 0, weight = 0;
  for (double l : losses(p, d, z, weight)) total += l;
  return total / weight;
}

SoftmaxCrossEntropy arguments(const Problem& p, const Data& d) {
  SoftmaxCrossEntropy a;
  a.logits = d.logits.in();
  a.labels = d.labels.in();
  if (p.mixed) {
    a.labels2 = d.labels2.in();
    a.lambda = d.lambda.in();
  }
  if (p.weighted) a.class_weights = d.weights.in();
  a.label_smoothing = static_cast<float>(p.smoothing);
  a.focal_gamma = static_cast<float>(p.gamma);
  return a;
}

TEST_P(Loss, CrossEntropyAndItsGradient) {
  const double eps = rounding_of(parameter_dtype(dtype()));
  for (Problem p : kProblems) {
    // The kernel is given floats: 0.1f is what it can know.
    p.smoothing = static_cast<double>(static_cast<float>(p.smoothing));
    const Data d = make_data(p, dtype());
    const DType out = parameter_dtype(dtype());
    Buffer loss(out, {1}), per_image(out, {p.images}), dlogits(out, {p.images, p.classes});
    SoftmaxCrossEntropy a = arguments(p, d);
    a.loss = loss.view();
    a.per_image = per_image.view();
    a.dlogits = dlogits.view();
    run(softmax_cross_entropy, a);

    double weight = 0;
    const Values z = d.logits.values();
    const Values want = losses(p, d, z, weight);
    // exp's error (4 ulp) and that of z - max (|z| u) come through the sum of exponentials into l; a weight
    // is at most 2, and focal's factor multiplies them by at most 1 + gamma.
    const double tolerance = (8 + 2 * p.spread) * 2 * (1 + p.gamma) * eps;
    expect_close(per_image, want, 4 * eps, tolerance, p.name + ", per image");
    expect_close(loss, {mean_loss(p, d, z)}, 4 * eps, tolerance, p.name + ", loss");

    // Gradient: central differences in double, on a sample of the logits where there are many.
    const double h = 1e-5;
    Values moved = z;
    for (std::size_t i = 0; i<z.size(); i += z.size()> 500 ? 97 : 1) {
      moved[i] = z[i] + h;
      const double up = mean_loss(p, d, moved);
      moved[i] = z[i] - h;
      const double down = mean_loss(p, d, moved);
      moved[i] = z[i];
      const double size = 1 / static_cast<double>(p.images);
      // The differences' own error: loss * 2^-53 / h, and h^2.
      const double own = (std::abs(up) + 1) * 0x1p-53 / h * 4 + 1e-10;
      ASSERT_NEAR(dlogits.at(static_cast<std::int64_t>(i)), (up - down) / (2 * h), tolerance * 2 * size + own)
          << p.name << ", logit " << i;
    }

    Buffer alone(out, {1}), again(out, {p.images, p.classes});
    a.loss = alone.view();
    a.dlogits = again.view();
    run(softmax_cross_entropy, a);
    EXPECT_TRUE(alone.same_bits(loss) && again.same_bits(dlogits)) << p.name << ": run twice";
    a.dlogits = {};
    a.per_image = {};
    run(softmax_cross_entropy, a);
    expect_close(alone, {mean_loss(p, d, z)}, 4 * eps, tolerance, p.name + ", loss alone");
  }
}

// Certain and right, certain and wrong: no NaN, and the gradients that the limits have.
TEST_P(Loss, CertainAnswers) {
  const DType out = parameter_dtype(dtype());
  for (float gamma : {0.0f, 0.5f, 2.0f}) {
    Buffer logits(dtype(), {2, 3}, {400, 0, -400, 400, 0, -400}), labels(DType::i32, {2}, {0, 2});
    Buffer loss(out, {1}), per_image(out, {2}), dlogits(out, {2, 3});
    SoftmaxCrossEntropy a;
    a.logits = logits.in();
    a.labels = labels.in();
    a.focal_gamma = gamma;
    a.loss = loss.view();
    a.per_image = per_image.view();
    a.dlogits = dlogits.view();
    run(softmax_cross_entropy, a);
    expect_close(per_image, {0, 800}, 1e-6, 0, "per image");
    expect_close(dlogits, {0, 0, 0, 0.5, 0, -0.5}, 1e-6, 1e-30, "gradient");
  }
}

TEST_P(Loss, NaNShows) {
  const DType out = parameter_dtype(dtype());
  Buffer logits(dtype(), {2, 3}, {1, std::nan(""), 2, 3, 4, 5}), labels(DType::i32, {2}, {0, 2});
  Buffer loss(out, {1}), dlogits(out, {2, 3}), p(out, {2, 3});
  SoftmaxCrossEntropy a;
  a.logits = logits.in();
  a.labels = labels.in();
  a.loss = loss.view();
  a.dlogits = dlogits.view();
  run(softmax_cross_entropy, a);
  EXPECT_TRUE(std::isnan(loss.at(0)));
  EXPECT_TRUE(std::isnan(dlogits.at(0)) && !std::isnan(dlogits.at(3)));
  run(softmax, {logits.in(), p.view()});
  EXPECT_TRUE(std::isnan(p.at(0)) && !std::isnan(p.at(3)));
}

TEST_P(Loss, Softmax) {
  const DType out = parameter_dtype(dtype());
  for (const Shape& s :
       {Shape{0, 4}, Shape{1, 1}, Shape{5, 7}, Shape{3, 16}, Shape{600, 100}, Shape{2, 1031}}) {
    Buffer x = grid(dtype(), s, 4, -90, 90), y(out, s), again(out, s);
    run(softmax, {x.in(), y.view()});
    run(softmax, {x.in(), again.view()});
    Values want;
    for (std::int64_t n = 0; n < s[0]; ++n) {
      double max = -1e300, sum = 0;
      for (std::int64_t c = 0; c < s[1]; ++c) max = std::max(max, x.at(n * s[1] + c));
      for (std::int64_t c = 0; c < s[1]; ++c) sum += std::exp(x.at(n * s[1] + c) - max);
      for (std::int64_t c = 0; c < s[1]; ++c) want.push_back(std::exp(x.at(n * s[1] + c) - max) / sum);
    }
    // x - max is rounded once at up to 180; below the smallest normal number bits go.
    expect_close(y, want, (200 + 8) * rounding_of(out), 1e-37, "softmax " + to_string(s));
    EXPECT_TRUE(y.same_bits(again));
  }
}

}  // namespace
}  // namespace cairn::kernels
