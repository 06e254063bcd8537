// One decoder on any bytes: an image of the size that was announced, or ImageError; nothing else. The format
// is CAIRN_FUZZ_NAME's.
#include <cstdlib>

#include "data/decode/decode.h"

using namespace cairn::data;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  constexpr const char* kName = CAIRN_FUZZ_NAME;
  constexpr int64_t kMaxPixels = 1 << 14;  // larger ones only slow it down
  try {
    const ImageInfo info = probe_image(bytes, kName);
    if (info.width < 1 || info.height < 1) std::abort();
  } catch (const ImageError&) {
  }
  for (const DecodeMode mode : {DecodeMode::exact, DecodeMode::fast}) {
    try {
      const Image image =
          decode_image(bytes, {.mode = mode, .target_size = 16, .max_pixels = kMaxPixels}, kName);
      if (image.width < 1 || image.height < 1 || int64_t{image.width} * image.height > kMaxPixels)
        std::abort();
      if (image.rgb.size() != size_t{3} * image.width * image.height) std::abort();
    } catch (const ImageError&) {
    }
  }
  return 0;
}
