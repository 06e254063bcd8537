#include "engine/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <sstream>

#include "engine/autograd.h"
#include "engine/backend.h"
#include "kernels/error.h"
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

/// What is varied: an input or a parameter, and how a failure calls it.
struct Leaf {
  std::size_t input;
  std::string name;
  Tensor tensor;
};

std::string index_text(std::int64_t element, const Shape& shape) {
  std::string text;
  for (int axis = shape.rank - 1; axis >= 0; --axis) {
    text = (axis > 0 ? "," : "") + std::to_string(element % shape[axis]) + text;
    element /= shape[axis];
  }
  return "[" + text + "]";
}

std::vector<double> fp64_values(const Tensor& output) {
  if (output.dtype() != DType::f64)
    throw DTypeError("gradcheck: the output is " + std::string(name_of(output.dtype())) +
                     ", expected fp64: check the part before the cast");
  return output.to_vector<double>();
}

GradcheckResult check_leaves(const std::function<Tensor()>& f, const std::vector<Leaf>& leaves,
                             const GradcheckOptions& options) {
  const Tensor y = f();
  const std::vector<double> first = fp64_values(y);
  const std::vector<double> weights = output_weights(y.numel(), options.seed);
  const auto weighted = [&](const std::vector<double>& values) {
    return std::inner_product(values.begin(), values.end(), weights.begin(), 0.0);
  };
  {
    const NoGrad no_grad;
    const std::vector<double> second = f().to_vector<double>();  // compared by bits: NaN is like itself
    if (second.size() != first.size() ||
        (!first.empty() && std::memcmp(first.data(), second.data(), first.size() * sizeof(double)) != 0))
      throw Error(
          "gradcheck: two calls with the same inputs gave different results; fix the op's random key");
  }
  const double base = weighted(first);
  y.backward(from_values<double>(y.shape(), weights, y.device()));

  const NoGrad no_grad;
  GradcheckResult result;
  for (const Leaf& leaf : leaves) {
    const Tensor grad = leaf.tensor.grad();
    const std::vector<double> analytic =
        grad.defined() ? grad.to_vector<double>()
                       : std::vector<double>(static_cast<std::size_t>(leaf.tensor.numel()), 0.0);
    std::vector<double> x = leaf.tensor.to_vector<double>();
    for (std::size_t e = 0; e < x.size(); ++e) {
      const double at = x[e];
      const auto value_at = [&](double v) {
        x[e] = v;
        leaf.tensor.copy_from<double>(x);
        return weighted(f().to_vector<double>());
      };
      const double up = value_at(at + options.step);
      const double down = value_at(at - options.step);
      x[e] = at;
      leaf.tensor.copy_from<double>(x);
      const double numeric = (up - down) / (2 * options.step);
      const double error = std::abs(analytic[e] - numeric) / std::max(1.0, std::abs(numeric));
      ++result.checked;
      if (!(error <= result.worst)) result.worst = error;
      if (error <= options.tolerance) continue;
      const double slope_gap = std::abs((up - base) - (base - down)) / options.step;
      const auto element = static_cast<std::int64_t>(e);
      result.failures.push_back({leaf.input, element, analytic[e], numeric,
                                 slope_gap > 1e-3 * std::max(1.0, std::abs(numeric)), leaf.name,
                                 index_text(element, leaf.tensor.shape())});
    }
  }
  return result;
}

Tensor fp64_leaf(const Tensor& t) {
  if (t.dtype() != DType::f64)
    throw DTypeError("gradcheck: inputs must be fp64, got " + std::string(name_of(t.dtype())));
  Tensor leaf = from_values<double>(t.shape(), t.to_vector<double>(), t.device());
  leaf.set_requires_grad(t.requires_grad());
  return leaf;
}

}  // namespace

std::string GradcheckResult::message() const {
  std::ostringstream out;
  for (const GradcheckFailure& f : failures)
    out << (f.name.empty() ? "input " + std::to_string(f.input) : "parameter " + f.name) << " element "
        << f.element << ": analytic " << f.analytic << ", numeric " << f.numeric << ", at " << f.index
        << (f.kink ? " (a kink: the slopes on both sides differ; move the input)" : "") << '\n';
  return out.str();
}

GradcheckResult gradcheck(const std::function<Tensor(std::span<const Tensor>)>& f,
                          std::span<const Tensor> inputs, const GradcheckOptions& options) {
  load_fp64_kernels();
  std::vector<Tensor> tensors;
  std::vector<Leaf> leaves;
  for (const Tensor& t : inputs) {
    tensors.push_back(fp64_leaf(t));
    if (t.requires_grad()) leaves.push_back({tensors.size() - 1, {}, tensors.back()});
  }
  return check_leaves([&] { return f(tensors); }, leaves, options);
}

GradcheckResult gradcheck(nn::Module& module, const Tensor& x, const GradcheckOptions& options) {
  load_fp64_kernels();
  Tensor input = fp64_leaf(x);
  input.set_requires_grad();
  std::vector<Leaf> leaves{{0, {}, input}};
  for (const nn::NamedTensor& t : module.named_tensors()) {
    // In place: the layers hold this handle.
    if (t.tensor.dtype() == DType::f32) {
      TensorImpl& impl = *t.tensor.impl();
      const Tensor wide = t.tensor.to(DType::f64);
      impl.storage = wide.impl()->storage;
      impl.offset_bytes = wide.impl()->offset_bytes;
      impl.dtype = DType::f64;
      impl.grad = {};
      impl.grad_arrived = false;
    }
    if (t.is_buffer) continue;
    leaves.push_back({0, t.name, t.tensor});
    leaves.back().tensor.zero_grad();
  }
  return check_leaves([&] { return module(input); }, leaves, options);
}

std::vector<double> spaced_values(std::int64_t n, double low, double high, std::uint64_t seed) {
  std::vector<double> values;
  for (std::int64_t i = 0; i < n; ++i)
    values.push_back(low + (high - low) * (static_cast<double>(i) + (2 * i + 1 == n ? 0.75 : 0.5)) /
                               static_cast<double>(n));
  for (std::int64_t i = n - 1; i > 0; --i) {  // Fisher and Yates' shuffle
    const auto word = philox(seed, philox_stream(kStreamGradcheck, 1), static_cast<std::uint64_t>(i)).v[0];
    std::swap(values[static_cast<std::size_t>(i)],
              values[static_cast<std::size_t>(word % static_cast<std::uint32_t>(i + 1))]);
  }
  return values;
}

}  // namespace cairn
