#include "apps/export/sample.h"

#include <zlib.h>

#include <nlohmann/json.hpp>

#include "apps/export/sha256.h"
#include "apps/prediction.h"
#include "data/decode/decode.h"
#include "data/encode.h"
#include "data/resize.h"
#include "engine/autograd.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

using Bytes = std::vector<std::uint8_t>;

void append_be32(Bytes& to, std::uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) to.push_back(static_cast<std::uint8_t>(v >> shift));
}

// A PNG chunk: length, type, data, CRC of type and data.
void append_chunk(Bytes& to, const char* type, const Bytes& data) {
  append_be32(to, static_cast<std::uint32_t>(data.size()));
  const std::size_t begin = to.size();
  to.insert(to.end(), type, type + 4);
  to.insert(to.end(), data.begin(), data.end());
  append_be32(to, static_cast<std::uint32_t>(crc32_z(0, to.data() + begin, to.size() - begin)));
}

const char* resize_in_words(const std::string& mode) {
  if (mode == "crop") return "the shorter side to S, then the middle of the longer";
  if (mode == "pad") return "the longer side to S, the rest filled with white, the image in the middle";
  return "both sides to S, the aspect is not kept";
}

}  // namespace

Bytes expected_input(const Bytes& file, const ModelCard& card, const std::string& name) {
  const auto size = static_cast<int>(card.image_size);
  Bytes pixels(static_cast<std::size_t>(size) * size * 3);
  data::resize_image(data::decode_image(file, {}, name), parse_resize(card.resize), size, pixels.data());
  return pixels;
}

Bytes sample_png(std::int64_t size) {
  const auto width = static_cast<std::uint32_t>(size + size / 2 + 1);
  const auto height = static_cast<std::uint32_t>(2 * size + 1);
  Bytes rows;
  for (std::uint32_t y = 0; y < height; ++y) {
    rows.push_back(0);  // PNG's filter: none
    for (std::uint32_t x = 0; x < width; ++x) {
      // Ramps, fine checks and blocks, a channel each: what swaps, shifts and aliases.
      rows.push_back(static_cast<std::uint8_t>(x * 7 + y * 3));
      rows.push_back(static_cast<std::uint8_t>(((x ^ y) & 15) * 17));
      rows.push_back((x / 8 + y / 16) % 2 == 0 ? 230 : 20);
    }
  }
  uLongf packed_size = compressBound(static_cast<uLong>(rows.size()));
  Bytes packed(packed_size);
  if (compress2(packed.data(), &packed_size, rows.data(), static_cast<uLong>(rows.size()), 9) != Z_OK)
    throw Error("zlib could not pack the sample image");
  packed.resize(packed_size);
  Bytes png{0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  Bytes header;
  append_be32(header, width);
  append_be32(header, height);
  header.insert(header.end(), {8, 2, 0, 0, 0});  // 8 bits, RGB, deflate, no interlace
  append_chunk(png, "IHDR", header);
  append_chunk(png, "IDAT", packed);
  append_chunk(png, "IEND", {});
  return png;
}

io::Metadata export_metadata(nn::Module& model, const ModelCard& card, Device device) {
  const NoGrad no_grad;
  const Bytes sample = sample_png(card.image_size);
  const Bytes input = expected_input(sample, card, "the sample image");
  const std::vector<float> logits =
      forward_images(model, input.data(), 1, card.image_size, DType::f32, card.normalization, device)
          .to_vector<float>();
  io::Metadata metadata = card_metadata(card);
  metadata["producer"] = "cairn " CAIRN_VERSION;
  metadata["input"] =
      "uint8 RGB [N,S,S,3], 0 to 255, S = image_size; (x / 255 - mean) / std follows, the mean and std here";
  metadata["decode"] =
      "8-bit RGB; EXIF orientation applied; transparency composed on white; ICC profiles ignored; the first "
      "frame of an animation";
  metadata["resize_filter"] =
      std::string("antialiased bilinear, Pillow's Image.resize(BILINEAR) on 8 bits, after decoding; ") +
      resize_in_words(card.resize);
  metadata["sample_image"] = data::base64(sample);
  metadata["sample_input_sha256"] = sha256(input);
  metadata["sample_logits"] = nlohmann::json(logits).dump();
  return metadata;
}

}  // namespace cairn::app
