#include "tests/cases/op_case.h"

namespace cairn::cases {
namespace {

OpCase make(const std::string& name, std::int64_t n, std::int64_t classes, reference::CrossEntropy o) {
  for (std::int64_t i = 0; i < n; ++i) o.labels.push_back(static_cast<int>((i * 5 + 1) % classes));
  OpCase c;
  c.name = "softmax_cross_entropy/" + name;
  c.inputs = {{.shape = {n, classes}}};
  c.op = [o, n, classes](std::span<const Tensor> in) {
    const Device device = in[0].device();
    const auto ints = [&](const std::vector<int>& v) { return from_values<std::int32_t>({n}, v, device); };
    CrossEntropyOptions options{.label_smoothing = static_cast<float>(o.label_smoothing),
                                .focal_gamma = static_cast<float>(o.focal_gamma)};
    if (!o.class_weights.empty())
      options.class_weights = from_doubles({classes}, o.class_weights,
                                           in[0].dtype() == DType::f64 ? DType::f64 : DType::f32, device);
    if (!o.labels2.empty()) {
      options.labels2 = ints(o.labels2);
      options.lambda = from_doubles({n}, o.lambda, DType::f32, device);
    }
    return softmax_cross_entropy(in[0], ints(o.labels), options);
  };
  c.reference = [o](std::span<const reference::Array> in) {
    return reference::softmax_cross_entropy(in[0], o);
  };
  c.reduction = 4.0 * static_cast<double>(n * classes);
  return c;
}

}  // namespace

std::vector<OpCase> loss_cases() {
  return {
      make("plain", 4, 7, {}),
      make("one_image", 1, 2, {}),
      make("one_class", 3, 1, {}),
      make("33_classes", 5, 33, {}),
      make("label_smoothing", 4, 7, {.label_smoothing = 0.125}),
      make("class_weights", 6, 3, {.class_weights = {0.5, 2.0, 1.25}}),
      make("smoothing_and_weights", 6, 3, {.class_weights = {0.5, 2.0, 1.25}, .label_smoothing = 0.25}),
      make("focal", 4, 5, {.focal_gamma = 2.0}),
      make("two_labels", 4, 5, {.labels2 = {0, 2, 4, 1}, .lambda = {0.75, 0.5, 1.0, 0.25}}),
      make("two_labels_smoothed_weighted", 4, 3,
           {.labels2 = {0, 2, 0, 1},
            .lambda = {0.75, 0.5, 1.0, 0.25},
            .class_weights = {0.5, 2.0, 1.25},
            .label_smoothing = 0.125}),
  };
}

std::vector<OpCase> all_cases() {
  std::vector<OpCase> all;
  for (const auto& list :
       {conv2d_cases(), linear_cases(), matmul_cases(), batch_norm_cases(), pointwise_cases(), reduce_cases(),
        pool_cases(), conv_pool_cases(), shape_cases(), loss_cases()})
    all.insert(all.end(), list.begin(), list.end());
  return all;
}

}  // namespace cairn::cases
