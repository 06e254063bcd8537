#include "apps/report/class_maps.h"

#include <algorithm>
#include <cmath>

#include "apps/prediction.h"
#include "apps/thumbnail.h"
#include "data/resize.h"
#include "engine/autograd.h"
#include "kernels/error.h"
#include "models/classifier.h"

namespace cairn::report {
namespace {

struct Map {
  int height = 0, width = 0;
  std::vector<float> values;  // [height, width], 0 ... 1
};

// maps, gradient: [1,h,w,C] fp32
Map weighted_map(const Tensor& maps, const Tensor& gradient) {
  const auto h = static_cast<int>(maps.size(1)), w = static_cast<int>(maps.size(2));
  const auto channels = static_cast<std::size_t>(maps.size(3)), places = static_cast<std::size_t>(h) * w;
  const std::vector<float> a = maps.to_vector<float>(), g = gradient.to_vector<float>();
  std::vector<float> weight(channels);
  for (std::size_t i = 0; i < a.size(); ++i) weight[i % channels] += g[i] / static_cast<float>(places);
  Map map{h, w, std::vector<float>(places)};
  float largest = 0;
  for (std::size_t p = 0; p < places; ++p) {
    float sum = 0;
    for (std::size_t c = 0; c < channels; ++c) sum += weight[c] * a[p * channels + c];
    map.values[p] = std::max(sum, 0.0f);
    largest = std::max(largest, map.values[p]);
  }
  if (largest > 0)
    for (float& v : map.values) v /= largest;
  return map;
}

// Bilinear, with the centres of both grids' corner cells apart by their size, as images are resized.
float value_at(const Map& map, int x, int y, int side) {
  const auto place = [side](int at, int cells) {
    return std::clamp(
        (static_cast<float>(at) + 0.5f) * static_cast<float>(cells) / static_cast<float>(side) - 0.5f, 0.0f,
        static_cast<float>(cells - 1));
  };
  const float fx = place(x, map.width), fy = place(y, map.height);
  const int x0 = static_cast<int>(fx), y0 = static_cast<int>(fy);
  const int x1 = std::min(x0 + 1, map.width - 1), y1 = std::min(y0 + 1, map.height - 1);
  const auto at = [&map](int px, int py) {
    return map.values[static_cast<std::size_t>(py) * map.width + px];
  };
  const float tx = fx - static_cast<float>(x0), ty = fy - static_cast<float>(y0);
  return (at(x0, y0) * (1 - tx) + at(x1, y0) * tx) * (1 - ty) +
         (at(x0, y1) * (1 - tx) + at(x1, y1) * tx) * ty;
}

// From the image's own colours where nothing spoke for the answer, over yellow, to red.
void lay_over(ClassMap& result) {
  constexpr float kMostCover = 0.65f;
  result.overlay = result.seen;
  for (std::size_t p = 0; p < result.strength.size(); ++p) {
    const float s = result.strength[p], cover = kMostCover * s;
    const float color[3] = {255, 230 * (1 - s), 0};
    for (std::size_t c = 0; c < 3; ++c) {
      std::uint8_t& pixel = result.overlay.rgb[3 * p + c];
      pixel =
          static_cast<std::uint8_t>(std::lround(static_cast<float>(pixel) * (1 - cover) + color[c] * cover));
    }
  }
}

}  // namespace

std::vector<ClassMap> class_maps(nn::Module& model, const app::ModelCard& card, const data::Dataset& dataset,
                                 std::span<const std::int64_t> items, const data::DecodeOptions& decode,
                                 Device device) {
  std::vector<ClassMap> results;
  auto* classifier = dynamic_cast<models::Classifier*>(&model);
  if (!classifier) return results;
  model.eval();
  const auto side = static_cast<int>(card.image_size);
  for (const std::int64_t item : items) {
    ClassMap result{.item = item,
                    .answer = 0,
                    .seen = {side, side, std::vector<std::uint8_t>(std::size_t{3} * side * side)},
                    .strength = {},
                    .overlay = {}};
    try {
      const data::Image image = app::load_image(dataset, item, decode);
      data::resize_image(image, app::parse_resize(card.resize), side, result.seen.rgb.data());
    } catch (const InputError&) {  // gone since it was read
      continue;
    }
    Tensor maps;
    {
      const NoGrad no_grad;
      maps = classifier->features(
          preprocess(from_values<std::uint8_t>({1, side, side, 3}, result.seen.rgb, device), DType::f32,
                     card.normalization));
    }
    maps.set_requires_grad();
    const Tensor logits = classifier->classify(maps);
    result.answer = app::top_classes(logits.to_vector<float>(), 1)[0];
    std::vector<float> one_hot(static_cast<std::size_t>(logits.size(1)));
    one_hot[result.answer] = 1;
    logits.backward(from_values<float>(logits.shape(), one_hot, device));
    const Map map = weighted_map(maps, maps.grad());
    for (int y = 0; y < side; ++y)
      for (int x = 0; x < side; ++x) result.strength.push_back(value_at(map, x, y, side));
    lay_over(result);
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace cairn::report
