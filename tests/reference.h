#pragma once
#include <functional>
#include <span>
#include <vector>

#include "kernels/conv.h"
#include "kernels/pool.h"
#include "kernels/view.h"

/// The oracle of the op tests: naive, in double, written from the formulas, sharing nothing with the
/// backends. It is meant to be obviously right and never optimised.
namespace cairn::reference {

struct Array {
  Shape shape;
  std::vector<double> values;

  Array() = default;
  explicit Array(const Shape& s) : shape(s), values(static_cast<std::size_t>(s.numel()), 0.0) {}
  double& at(std::int64_t i) { return values[static_cast<std::size_t>(i)]; }
  double at(std::int64_t i) const { return values[static_cast<std::size_t>(i)]; }
  /// Element of a 4-axis array.
  double at(std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) const {
    return at(((a * shape[1] + b) * shape[2] + c) * shape[3] + d);
  }
  double& at(std::int64_t a, std::int64_t b, std::int64_t c, std::int64_t d) {
    return at(((a * shape[1] + b) * shape[2] + c) * shape[3] + d);
  }
};

Array conv2d(const Array& x, const Array& w, const Array* bias, const kernels::Conv2dGeometry& g);
/// a [B,M,K], b [B,K,N]; a batch of 1 is shared.
Array matmul(const Array& a, const Array& b);
Array linear(const Array& x, const Array& w, const Array* bias);
/// Training form over the last axis' channels; the batch's mean and biased variance are returned if wanted.
Array batch_norm(const Array& x, const Array& gamma, const Array& beta, double eps, Array* mean = nullptr,
                 Array* var = nullptr);
Array batch_norm_inference(const Array& x, const Array& gamma, const Array& beta, const Array& mean,
                           const Array& var, double eps);
Array map(const Array& x, const std::function<double(double)>& f);
/// NumPy broadcasting.
Array zip(const Array& a, const Array& b, const std::function<double(double, double)>& f);
Array max_pool2d(const Array& x, const kernels::Pool2dGeometry& g);
Array avg_pool2d(const Array& x, const kernels::Pool2dGeometry& g, bool count_include_pad);
Array global_avg_pool(const Array& x);
/// Folds f over the named axes (all if empty), which disappear.
Array fold(const Array& x, const std::vector<int>& axes, double start,
           const std::function<double(double, double)>& f);
Array permute(const Array& x, const std::vector<int>& order);
struct CrossEntropy {
  std::vector<int> labels{}, labels2{};
  std::vector<double> lambda{}, class_weights{};
  double label_smoothing = 0, focal_gamma = 0;
};
Array softmax_cross_entropy(const Array& logits, const CrossEntropy& options);

/// d/dx_i of f at x by central differences, for every i.
std::vector<double> numeric_gradient(const std::function<double(const std::vector<double>&)>& f,
                                     std::vector<double> x, double h = 1e-5);

}  // namespace cairn::reference
