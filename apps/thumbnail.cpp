#include "apps/thumbnail.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "data/encode.h"
#include "data/resize.h"

namespace cairn::app {
namespace {

constexpr int kQuality = 80;

}  // namespace

data::Image load_image(const data::Dataset& dataset, std::int64_t item, const data::DecodeOptions& decode) {
  const data::Item& entry = dataset.items[item];
  return data::decode_image(dataset.read_bytes(entry), decode, dataset.display_path(entry));
}

data::Image thumbnail(const data::Image& image) {
  const int longest = std::max(image.width, image.height);
  const auto side = [&](int s) {
    return std::max(1, static_cast<int>(std::int64_t{s} * std::min(kThumbnailSide, longest) / longest));
  };
  data::Image small{side(image.width), side(image.height), {}};
  small.rgb.resize(std::size_t{3} * small.width * small.height);
  data::resize_bilinear(image.rgb.data(), image.width, image.height, 0, 0, static_cast<float>(image.width),
                        static_cast<float>(image.height), small.rgb.data(), small.width, small.height);
  return small;
}

std::string data_address(const data::Image& image) {
  return "data:image/jpeg;base64," + data::base64(data::encode_jpeg(image, kQuality));
}

std::string image_tag(const data::Image& image) {
  return "<img alt=\"\" loading=\"lazy\" src=\"" + data_address(image) + "\">";
}

std::string valid_utf8(const std::string& text) {
  const std::string json =
      nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return nlohmann::json::parse(json).get<std::string>();
}

}  // namespace cairn::app
