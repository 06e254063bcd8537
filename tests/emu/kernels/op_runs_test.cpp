// The kernels behind the table of op cases, forward and backward, with tensors on 16 bytes and off them:
// kernels have a form for each.
#include <numeric>

#include "tests/cases/op_run.h"
#include "tests/emu/kernels/kernel_run.h"

namespace cairn::cases {
namespace {

const OwnMemory kOwnMemory;

class OpRun : public KernelRun, public testing::WithParamInterface<std::tuple<OpCase, DType, Device>> {};

/// The tensor once more, `shift` elements into memory of its own.
Tensor moved(const Tensor& t, int shift) { return placed(t.shape(), t.to_doubles(), t.dtype(), shift); }

TEST_P(OpRun, AgreesWithTheReference) {
  const auto& [c, dtype, device] = GetParam();
  std::vector<double> want;
  std::vector<std::vector<double>> want_gradients;
  for (const int shift : {0, 1}) {
    Prepared p = prepare(c, dtype, device);
    for (std::size_t i = 0; shift != 0 && i < p.tensors.size(); ++i) {
      p.tensors[i] = moved(p.tensors[i].detach(), shift);
      p.tensors[i].set_requires_grad(c.inputs[i].grad);
    }
    const Tensor y = c.op(p.tensors);
    const Tensor dy = moved(output_gradient(y), shift);
    if (shift == 0) {
      want = c.reference(p.arrays).values;
      const std::vector<double> weights = dy.to_doubles();
      for (std::size_t i = 0; i < c.inputs.size(); ++i) {
        want_gradients.emplace_back();
        if (!c.inputs[i].grad || emu::checked()) continue;  // checked runs look for what values do not show
        std::vector<Array> arrays = p.arrays;
        want_gradients.back() = reference::numeric_gradient(
            [&](const std::vector<double>& x) {
              arrays[i].values = x;
              const Array out = c.reference(arrays);
              return std::inner_product(out.values.begin(), out.values.end(), weights.begin(), 0.0);
            },
            p.arrays[i].values);
      }
    }
    const std::string at = shift == 0 ? "" : " off 16 bytes";
    expect("result" + at, y.view(), want, tolerance(c, dtype));
    y.backward(dy);
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
      if (want_gradients[i].empty()) continue;
      // Central differences with h = 1e-5 are good to about 1e-9.
      expect("gradient of input " + std::to_string(i) + at, p.tensors[i].grad().view(), want_gradients[i],
             tolerance(c, dtype) + 1e-7);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(CudaEmu, OpRun,
                         testing::Combine(testing::ValuesIn(all_cases()), testing::ValuesIn(kKernelDTypes),
                                          testing::Values(kEmulated)),
                         test_name);

}  // namespace
}  // namespace cairn::cases
