#include <memory>

#include "engine/autograd.h"
#include "engine/distributed/sync_batch_norm.h"
#include "kernels/pointwise.h"
#include "tests/cases/op_case.h"

namespace cairn::cases {
namespace {

enum class Form { training, inference, synchronised };

/// As if another process had the same images: sums double, and what is made of them is as with one.
class Twin final : public distributed::Collective {
 public:
  int world() const override { return 2; }
  void start_sum(const Tensor& t) override {
    call(kernels::cast, t.queue(), {t.view(), t.inplace(), kernels::Write::add});
  }
  void finish() override {}
  void sum(const Tensor& t) override { start_sum(t); }
};

std::string name_of(Form form) {
  if (form == Form::training) return "batch_norm/";
  return form == Form::inference ? "batch_norm_inference/" : "sync_batch_norm/";
}

OpCase make(const std::string& name, Form form, const Shape& x, bool residual, Activation activation) {
  constexpr float kEps = 1e-5f;
  OpCase c;
  c.name = name_of(form) + name;
  const Shape channels{x[x.rank - 1]};
  c.inputs = {{.shape = x},
              {.shape = channels, .fill = Input::Fill::positive, .parameter = true},
              {.shape = channels, .parameter = true},
              {.shape = channels, .parameter = true, .grad = false},
              {.shape = channels, .fill = Input::Fill::positive, .parameter = true, .grad = false}};
  if (residual) c.inputs.push_back({.shape = x});
  c.op = [=, twin = std::make_shared<Twin>()](std::span<const Tensor> in) {
    const Tensor skip = residual ? in[5] : Tensor();
    if (form == Form::inference)
      return batch_norm_inference(in[0], {in[1], in[2], in[3], in[4]}, skip, activation, kEps);
    if (form == Form::synchronised)
      return sync_batch_norm(in[0], {in[1], in[2], {}, {}}, skip, activation, 0.1f, kEps, *twin);
    return batch_norm(in[0], {in[1], in[2], {}, {}}, skip, activation, 0.1f, kEps);
  };
  c.reference = [=](std::span<const reference::Array> in) {
    reference::Array y = form == Form::inference ? reference::batch_norm_inference(in[0], in[1], in[2], in[3],
                                                                                   in[4], double{kEps})
                                                 : reference::batch_norm(in[0], in[1], in[2], double{kEps});
    if (residual) y = reference::zip(y, in[5], [](double a, double b) { return a + b; });
    return activation == Activation::relu ? reference::map(y, [](double v) { return v > 0 ? v : 0.0; }) : y;
  };
  c.reduction = static_cast<double>(x.numel() / channels[0]);
  return c;
}

}  // namespace

std::vector<OpCase> batch_norm_cases() {
  std::vector<OpCase> cases;
  for (const Form form : {Form::training, Form::inference, Form::synchronised}) {
    cases.push_back(make("plain", form, {2, 5, 3, 4}, false, Activation::none));
    cases.push_back(make("relu", form, {3, 4, 4, 5}, false, Activation::relu));
    cases.push_back(make("residual_relu", form, {2, 3, 4, 7}, true, Activation::relu));
    cases.push_back(make("residual", form, {2, 2, 3, 3}, true, Activation::none));
    cases.push_back(make("17_channels", form, {2, 3, 3, 17}, false, Activation::relu));
    cases.push_back(make("1_channel", form, {1, 4, 5, 1}, false, Activation::relu));
    cases.push_back(make("vectors", form, {6, 9}, false, Activation::none));
    // 16 bytes at a time, in every dtype.
    cases.push_back(make("16_channels", form, {2, 3, 2, 16}, false, Activation::none));
    cases.push_back(make("16_channels_relu", form, {2, 3, 2, 16}, false, Activation::relu));
    cases.push_back(make("16_channels_residual_relu", form, {2, 3, 2, 16}, true, Activation::relu));
    cases.push_back(make("33_channels", form, {1, 2, 3, 33}, true, Activation::relu));
  }
  return cases;
}

}  // namespace cairn::cases
