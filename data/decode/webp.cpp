#ifdef CAIRN_HAVE_WEBP
#include <webp/decode.h>
#endif

#include <cstring>

#include "data/decode/internal.h"
#include "data/exif.h"

namespace cairn::data {

#ifdef CAIRN_HAVE_WEBP
namespace {

/// The EXIF chunk of the RIFF file, if there is one.
int read_orientation(Bytes bytes) {
  for (size_t offset = 12; offset + 8 <= bytes.size();) {
    const uint64_t size = read_u32_le(bytes.data() + offset + 4);
    if (size > bytes.size() - offset - 8) return 1;
    if (std::memcmp(bytes.data() + offset, "EXIF", 4) == 0)
      return exif_orientation(bytes.subspan(offset + 8, size));
    offset += 8 + size + (size & 1);
  }
  return 1;
}

[[noreturn]] void refuse(VP8StatusCode status) {
  if (status == VP8_STATUS_NOT_ENOUGH_DATA || status == VP8_STATUS_SUSPENDED) throw Refusal{"truncated WebP"};
  if (status == VP8_STATUS_OUT_OF_MEMORY) throw Refusal{"WebP: out of memory"};
  if (status == VP8_STATUS_UNSUPPORTED_FEATURE)
    throw Refusal{"WebP with a feature that libwebp does not read"};
  throw Refusal{"damaged WebP"};
}

WebPBitstreamFeatures read_features(Bytes bytes) {
  WebPBitstreamFeatures features;
  const VP8StatusCode status = WebPGetFeatures(bytes.data(), bytes.size(), &features);
  if (status != VP8_STATUS_OK) refuse(status);
  return features;
}

}  // namespace

ImageInfo probe_webp(Bytes bytes) {
  const WebPBitstreamFeatures features = read_features(bytes);
  ImageInfo info;
  info.width = features.width;
  info.height = features.height;
  info.channels = features.has_alpha ? 4 : 3;
  info.bit_depth = 8;
  info.color_mode = features.has_alpha ? "RGBA" : "RGB";
  info.exif_orientation = read_orientation(bytes);
  return info;
}

Decoded decode_webp(Bytes bytes, const DecodeOptions& options) {
  const WebPBitstreamFeatures features = read_features(bytes);
  check_size(features.width, features.height, options.max_pixels);
  if (features.has_animation) {
    throw Refusal{
        "animated WebP: save its first frame, e.g. with `webpmux -get frame 1 IN.webp -o OUT.webp`"};
  }
  // libwebp may paint a picture whose last bytes are missing; RIFF says how long the file is.
  if (uint64_t{read_u32_le(bytes.data() + 4)} + 8 > bytes.size()) throw Refusal{"truncated WebP"};
  const int channels = features.has_alpha ? 4 : 3;
  Decoded decoded{{features.width, features.height, {}}, read_orientation(bytes)};
  const int64_t pixels = int64_t{features.width} * features.height;
  std::vector<uint8_t>& rgb = decoded.image.rgb;
  rgb.resize(static_cast<size_t>(channels * pixels));
  WebPDecoderConfig config;
  if (!WebPInitDecoderConfig(&config)) throw Refusal{"WebP: libwebp's header and library differ in version"};
  config.output.colorspace = features.has_alpha ? MODE_RGBA : MODE_RGB;
  config.output.is_external_memory = 1;
  config.output.u.RGBA = {rgb.data(), channels * features.width, rgb.size()};
  const VP8StatusCode status = WebPDecode(bytes.data(), bytes.size(), &config);
  WebPFreeDecBuffer(&config.output);
  if (status != VP8_STATUS_OK) refuse(status);
  if (features.has_alpha) {
    compose_on_white(rgb.data(), pixels, rgb.data());
    rgb.resize(static_cast<size_t>(3 * pixels));
  }
  return decoded;
}

std::string webp_version() { return std::to_string(WebPGetDecoderVersion()); }

#else

std::string webp_version() { return "none"; }

ImageInfo probe_webp(Bytes) {
  throw Refusal{
      "WebP images are not read by this build: install libwebp (Debian: libwebp-dev) and build again"};
}
Decoded decode_webp(Bytes bytes, const DecodeOptions&) {
  probe_webp(bytes);
  return {};
}
#endif

}  // namespace cairn::data
