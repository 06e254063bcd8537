#include "tests/cases/op_case.h"

namespace cairn::cases {
namespace {

OpCase make(std::string name, std::vector<Input> inputs, std::function<Tensor(std::span<const Tensor>)> op,
            std::function<reference::Array(std::span<const reference::Array>)> f) {
  return {.name = std::move(name),
          .inputs = std::move(inputs),
          .op = std::move(op),
          .reference = std::move(f),
          .reduction = 4};
}

reference::Array reshaped(reference::Array x, const Shape& s) {
  x.shape = s;
  return x;
}

}  // namespace

std::vector<OpCase> shape_cases() {
  using In = std::span<const Tensor>;
  using Ref = std::span<const reference::Array>;
  std::vector<OpCase> cases;
  cases.push_back(make(
      "reshape/merge", {{.shape = {2, 3, 4}}},
      [](In in) {
        return reshape(in[0], {6, 4});
      },
      [](Ref in) {
        return reshaped(in[0], {6, 4});
      }));
  // A square behind the reshape, so that its gradient is not the constant that came in.
  cases.push_back(make(
      "reshape/twice_used", {{.shape = {3, 4}}},
      [](In in) {
        const Tensor y = reshape(in[0], {12});
        return mul(y, y);
      },
      [](Ref in) { return reshaped(reference::map(in[0], [](double v) { return v * v; }), {12}); }));
  for (const std::vector<int>& order :
       {std::vector<int>{0, 3, 1, 2}, {3, 2, 1, 0}, {0, 1, 2, 3}, {2, 0, 3, 1}}) {
    std::string at = "permute/";
    for (const int a : order) at += std::to_string(a);
    cases.push_back(make(
        at, {{.shape = {2, 3, 4, 5}}}, [order](In in) { return permute(in[0], order); },
        [order](Ref in) { return reference::permute(in[0], order); }));
  }
  cases.push_back(make(
      "flatten", {{.shape = {2, 3, 2, 5}}}, [](In in) { return flatten(in[0]); },
      [](Ref in) {
        return reshaped(reference::permute(in[0], {0, 3, 1, 2}), {2, 30});
      }));
  cases.push_back(make(
      "flatten/one_pixel", {{.shape = {3, 1, 1, 5}}}, [](In in) { return flatten(in[0]); },
      [](Ref in) {
        return reshaped(in[0], {3, 5});
      }));
  for (int axis = 0; axis < 3; ++axis)
    cases.push_back(make(
        "slice/axis" + std::to_string(axis), {{.shape = {4, 5, 6}}},
        [axis](In in) { return slice(in[0], axis, 1, 3); },
        [axis](Ref in) {
          Shape s = in[0].shape;
          s[axis] = 2;
          reference::Array y(s);
          for (std::int64_t i = 0; i < s[0]; ++i)
            for (std::int64_t j = 0; j < s[1]; ++j)
              for (std::int64_t k = 0; k < s[2]; ++k)
                y.at((i * s[1] + j) * s[2] + k) =
                    in[0].at(((i + (axis == 0)) * 5 + j + (axis == 1)) * 6 + k + (axis == 2));
          return y;
        }));
  cases.push_back(make(
      "concat/last_axis", {{.shape = {2, 3}}, {.shape = {2, 1}}, {.shape = {2, 4}}},
      [](In in) { return concat(in, 1); },
      [](Ref in) {
        reference::Array y({2, 8});
        std::int64_t begin = 0;
        for (const reference::Array& part : in) {
          for (std::int64_t i = 0; i < part.shape.numel(); ++i)
            y.at(i / part.shape[1] * 8 + begin + i % part.shape[1]) = part.at(i);
          begin += part.shape[1];
        }
        return y;
      }));
  cases.push_back(make(
      "concat/first_axis", {{.shape = {1, 5}}, {.shape = {2, 5}}}, [](In in) { return concat(in, 0); },
      [](Ref in) {
        reference::Array y({3, 5});
        for (std::int64_t i = 0; i < 15; ++i) y.at(i) = i < 5 ? in[0].at(i) : in[1].at(i - 5);
        return y;
      }));
  // A residual: x reaches the sum twice, so a second gradient must be added to the first.
  cases.push_back(make(
      "add/residual", {{.shape = {2, 9}}}, [](In in) { return add(in[0], relu(in[0])); },
      [](Ref in) { return reference::map(in[0], [](double v) { return v + (v > 0 ? v : 0.0); }); }));
  cases.push_back(make(
      "add/itself", {{.shape = {11}}},
      [](In in) {
        const Tensor t = affine(in[0], 3.0f);
        return add(t, t);
      },
      [](Ref in) { return reference::map(in[0], [](double v) { return 6 * v; }); }));
  return cases;
}

}  // namespace cairn::cases
