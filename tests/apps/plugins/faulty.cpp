// A small model that goes wrong in training where CAIRN_FAULT says: "forward" and "backward" on a batch with
// an image that is magenta all over, "memory" on any, "zero" by answering nothing. On the CPU alone.
#include <cmath>
#include <cstdlib>
#include <string>

#include "engine/autograd.h"
#include "engine/nn/layers.h"
#include "kernels/pointwise.h"
#include "models/plugin.h"

namespace {

using namespace cairn;

// The identity, whose gradient overflows.
Tensor blow_up(const Tensor& x) {
  Tensor y = affine(x.detach(), 1.0f);
  return record("blow_up", y, {x}, [](Grads& g) {
    if (auto dx = g.wants(0))
      call(kernels::affine, g.output_tensor().queue(),
           {g.output(), dx->view, HUGE_VALF, HUGE_VALF, dx->write});
  });
}

class Faulty : public nn::Module {
 public:
  explicit Faulty(const models::ModelOptions& options) : init_(options.seed) {
    const nn::Conv2dOptions conv{.in_channels = 4, .out_channels = 4, .padding = 1, .bias = false};
    conv1_ = &make<nn::Conv2d>("conv1", init_, nn::Conv2dOptions{.in_channels = 3, .out_channels = 4});
    bn1_ = &make<nn::BatchNorm2d>("bn1", init_, 4);
    conv2_ = &make<nn::Conv2d>("layer.conv2", init_, conv);
    bn2_ = &make<nn::BatchNorm2d>("layer.bn2", init_, 4);
    // All positive, so that no sum of them cancels out.
    std::vector<float> weights(4 * 9 * 4);
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.1f + 0.001f * static_cast<float>(i);
    conv2_->weight().copy_from<float>(weights);
    fc_ =
        &make<nn::Linear>("fc", init_, nn::LinearOptions{.in_features = 4, .out_features = options.classes});
    const char* fault = std::getenv("CAIRN_FAULT");
    fault_ = fault ? fault : "";
  }

  Tensor forward(const Tensor& x) override {
    const bool bad = training() && !dry_run() && holds_magenta(x);
    if (fault_ == "memory" && training() && !dry_run()) static_cast<void>(empty({std::int64_t{1} << 50}));
    Tensor y = bn1_->fused((*conv1_)(x), {}, Activation::relu);
    if (bad && fault_ == "forward") y = affine(y, 0.0f, 3e38f);  // nearly the largest: conv2's sum overflows
    y = (*conv2_)(y);
    if (bad && fault_ == "backward") y = blow_up(y);
    y = (*fc_)(cast(global_avg_pool(bn2_->fused(y, {}, Activation::relu)), DType::f32));
    return fault_ == "zero" ? affine(y, 0.0f) : y;
  }

 private:
  static bool holds_magenta(const Tensor& x) {
    const std::vector<double> values = x.to_doubles();
    const std::size_t image = values.size() / static_cast<std::size_t>(x.size(0));
    for (std::size_t begin = 0; begin < values.size(); begin += image) {
      bool all = true;
      for (std::size_t i = begin; i < begin + image; ++i)
        all = all && std::abs(values[i] - ((i - begin) % 3 == 1 ? -1.0 : 1.0)) < 1e-3;
      if (all) return true;
    }
    return false;
  }

  nn::Initializer init_;
  nn::Conv2d *conv1_, *conv2_;
  nn::BatchNorm2d *bn1_, *bn2_;
  nn::Linear* fc_;
  std::string fault_;
};

const models::RegisterModel kModel{{.name = "faulty",
                                    .summary = "goes wrong on request",
                                    .head = "fc",
                                    .defaults = models::resnet_defaults(),
                                    .make = [](const models::ModelOptions& options) {
                                      return std::unique_ptr<nn::Module>(std::make_unique<Faulty>(options));
                                    }}};

}  // namespace
CAIRN_PLUGIN();
