#include <limits>

#include "tests/cases/op_case.h"

namespace cairn::cases {

std::vector<OpCase> reduce_cases() {
  std::vector<OpCase> cases;
  const std::pair<Shape, std::vector<int>> forms[] = {
      {{7}, {}},          {{3, 5}, {0}},    {{3, 5}, {1}},  {{2, 3, 4, 5}, {1, 2}}, {{2, 3, 4, 5}, {0, 3}},
      {{2, 3, 4, 5}, {}}, {{4, 1, 3}, {1}}, {{2, 33}, {1}},
  };
  for (const auto& [shape, axes] : forms) {
    std::string at = '/' + to_string(shape) + "_over";
    for (const int a : axes) at += '_' + std::to_string(a);
    double count = 1;
    for (int a = 0; a < shape.rank; ++a)
      if (axes.empty() || std::find(axes.begin(), axes.end(), a) != axes.end())
        count *= static_cast<double>(shape[a]);
    const auto add_case = [&, s = shape, ax = axes](
                              const char* name, Tensor (*op)(const Tensor&, std::vector<int>, bool),
                              std::function<reference::Array(const reference::Array&)> f) {
      OpCase c;
      c.name = name + at;
      // A sum of values around 0 would cancel, and its rounding could only be judged against the terms.
      c.inputs = {{.shape = s, .fill = Input::Fill::positive}};
      c.op = [op, ax](std::span<const Tensor> in) { return op(in[0], ax, false); };
      c.reference = [f = std::move(f)](std::span<const reference::Array> in) { return f(in[0]); };
      c.reduction = 4 * count;
      cases.push_back(std::move(c));
    };
    const auto plus = [](double a, double b) { return a + b; };
    add_case("sum", sum,
             [=, ax = axes](const reference::Array& x) { return reference::fold(x, ax, 0.0, plus); });
    add_case("mean", mean, [=, ax = axes](const reference::Array& x) {
      return reference::map(reference::fold(x, ax, 0.0, plus), [count](double v) { return v / count; });
    });
    add_case("max", max, [=, ax = axes](const reference::Array& x) {
      return reference::fold(x, ax, -std::numeric_limits<double>::infinity(),
                             [](double a, double b) { return std::max(a, b); });
    });
  }
  return cases;
}

}  // namespace cairn::cases
