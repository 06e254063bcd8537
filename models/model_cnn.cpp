#include "models/model_cnn.h"

#include <string>

#include "kernels/error.h"

namespace cairn::models {

ModelCnn::ModelCnn(nn::Initializer& init, const ModelCnnOptions& options)
    : features_(make<nn::Sequential>("features")), classifier_(make<nn::Sequential>("classifier")) {
  constexpr std::int64_t kChannels[] = {32, 64, 128};
  constexpr std::int64_t kHidden = 512;
  std::int64_t in_channels = 3;
  std::int64_t side = options.image_size;
  int position = 0;  // of the layer in PyTorch's Sequential, where ReLU and the pooling are layers too
  for (const std::int64_t channels : kChannels) {
    features_.add<nn::ConvReluMaxPool2d>(
        std::to_string(position), init,
        nn::Conv2dOptions{.in_channels = in_channels, .out_channels = channels, .padding = 1}, 2);
    features_.add<nn::Dropout>(std::to_string(position + 3), options.block_dropout);
    in_channels = channels;
    side /= 2;
    position += 4;
  }
  if (side == 0)
    throw InputError("model_cnn: images of " + std::to_string(options.image_size) +
                     " pixels vanish in three 2x2 poolings; use an image size of at least 8");
  const std::int64_t flat = in_channels * side * side;
  classifier_.add<nn::Flatten>("0")
      .add<nn::Linear>(
          "1", init,
          nn::LinearOptions{.in_features = flat, .out_features = kHidden, .activation = Activation::relu})
      .add<nn::Dropout>("3", options.head_dropout)
      .add<nn::ToFp32>("to_fp32")
      .add<nn::Linear>("4", init, nn::LinearOptions{.in_features = kHidden, .out_features = options.classes});
}

Tensor ModelCnn::features(const Tensor& x) { return features_(x); }

Tensor ModelCnn::classify(const Tensor& features) { return classifier_(features); }

}  // namespace cairn::models
