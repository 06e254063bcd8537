#include "tests/cases/op_case.h"

namespace cairn::cases {

std::vector<OpCase> pool_cases() {
  std::vector<OpCase> cases;
  const auto add_case = [&](std::string name, const Shape& x, std::function<Tensor(const Tensor&)> op,
                            std::function<reference::Array(const reference::Array&)> f, double reduction) {
    OpCase c;
    c.name = std::move(name);
    c.inputs = {{.shape = x}};
    c.op = [op = std::move(op)](std::span<const Tensor> in) { return op(in[0]); };
    c.reference = [f = std::move(f)](std::span<const reference::Array> in) { return f(in[0]); };
    c.reduction = reduction;
    cases.push_back(std::move(c));
  };
  struct Form {
    const char* name;
    Shape x;
    Pool2dGeometry g;
  };
  const Form forms[] = {
      {"2x2", {2, 4, 6, 5}, {}},
      {"2x2_odd_image", {1, 5, 7, 3}, {}},
      {"3x3_stride2_pad1", {2, 7, 8, 4}, {3, 3, 2, 2, 1, 1}},
      {"3x3_stride1_pad1", {1, 5, 4, 17}, {3, 3, 1, 1, 1, 1}},
      {"stride_over_window", {1, 9, 8, 2}, {2, 2, 3, 4, 0, 0}},
      {"uneven", {1, 6, 7, 3}, {2, 3, 1, 2, 1, 0}},
      {"1x1_image", {3, 1, 1, 33}, {1, 1, 1, 1, 0, 0}},
      {"whole_image", {1, 4, 4, 16}, {4, 4, 4, 4, 0, 0}},
  };
  for (const Form& form : forms) {
    const Pool2dGeometry g = form.g;
    const double window = g.kernel_h * g.kernel_w;
    add_case(
        std::string("max_pool2d/") + form.name, form.x, [g](const Tensor& x) { return max_pool2d(x, g); },
        [g](const reference::Array& x) { return reference::max_pool2d(x, g); }, window);
    for (const bool include : {true, false})
      add_case(
          std::string("avg_pool2d/") + form.name + (include ? "" : "_without_padding"), form.x,
          [=](const Tensor& x) { return avg_pool2d(x, g, include); },
          [=](const reference::Array& x) { return reference::avg_pool2d(x, g, include); }, 4 * window);
  }
  for (const Shape& x : {Shape{1, 1, 1, 1}, Shape{2, 7, 7, 5}, Shape{3, 2, 5, 17}, Shape{2, 3, 2, 16}})
    add_case("global_avg_pool/" + to_string(x), x, global_avg_pool, reference::global_avg_pool,
             4.0 * static_cast<double>(x[1] * x[2]));
  return cases;
}

}  // namespace cairn::cases
