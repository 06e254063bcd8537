#include "engine/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

#include "engine/autograd.h"
#include "kernels/philox.h"

namespace cairn {
namespace {

/// In [0.5, 1.5): no weight may hide an element by being near 0.
std::vector<double> output_weights(std::int64_t n, std::uint64_t seed) {
  std::vector<double> weights;
  for (std::int64_t i = 0; i < n; ++i)
    weights.push_back(
        0.5 +
        uniform_float(philox(seed, philox_stream(kStreamGradcheck, 0), static_cast<std::uint64_t>(i)).v[0]));
  return weights;
}

}  // namespace

std::string GradcheckResult::message() const {
  std::ostringstream out;
  for (const GradcheckFailure& f : failures)
    out << "input " << f.input << " element " << f.element << ": analytic " << f.analytic << ", numeric "
        << f.numeric << (f.kink ? " (a kink: the slopes on both sides differ; move the input)" : "") << '\n';
  return out.str();
}

GradcheckResult gradcheck(const std::function<Tensor(std::span<const Tensor>)>& f,
                          std::span<const Tensor> inputs, const GradcheckOptions& options) {
  for (const Tensor& t : inputs)
    if (t.dtype() != DType::f64)
      throw DTypeError("gradcheck: inputs must be fp64, got " + std::string(name_of(t.dtype())));
  std::vector<Tensor> leaves;
  for (const Tensor& t : inputs) {
    leaves.push_back(from_values<double>(t.shape(), t.to_vector<double>(), t.device()));
    leaves.back().set_requires_grad(t.requires_grad());
  }
  const Tensor y = f(leaves);
  const std::vector<double> weights = output_weights(y.numel(), options.seed);
  const auto weighted = [&](const Tensor& out) {
    const std::vector<double> values = out.to_vector<double>();
    return std::inner_product(values.begin(), values.end(), weights.begin(), 0.0);
  };
  {
    const NoGrad no_grad;
    if (f(leaves).to_vector<double>() != y.to_vector<double>())
      throw Error(
          "gradcheck: two calls with the same inputs gave different results; fix the op's random key");
  }
  const double base = weighted(y);
  y.backward(from_values<double>(y.shape(), weights, y.device()));

  const NoGrad no_grad;
  GradcheckResult result;
  for (std::size_t i = 0; i < leaves.size(); ++i) {
    if (!leaves[i].requires_grad()) continue;
    const Tensor grad = leaves[i].grad();
    const std::vector<double> analytic =
        grad.defined() ? grad.to_vector<double>()
                       : std::vector<double>(static_cast<std::size_t>(leaves[i].numel()), 0.0);
    std::vector<double> x = leaves[i].to_vector<double>();
    for (std::size_t e = 0; e < x.size(); ++e) {
      const double at = x[e];
      const auto value_at = [&](double v) {
        x[e] = v;
        leaves[i].copy_from<double>(x);
        return weighted(f(leaves));
      };
      const double up = value_at(at + options.step);
      const double down = value_at(at - options.step);
      value_at(at);
      const double numeric = (up - down) / (2 * options.step);
      const double error = std::abs(analytic[e] - numeric) / std::max(1.0, std::abs(numeric));
      ++result.checked;
      if (!(error <= result.worst)) result.worst = error;
      if (error <= options.tolerance) continue;
      const double slope_gap = std::abs((up - base) - (base - down)) / options.step;
      result.failures.push_back({i, static_cast<std::int64_t>(e), analytic[e], numeric,
                                 slope_gap > 1e-3 * std::max(1.0, std::abs(numeric))});
    }
  }
  return result;
}

}  // namespace cairn
