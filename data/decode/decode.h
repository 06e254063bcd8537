#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "data/image.h"
#include "kernels/error.h"

namespace cairn::data {

/// An image that cannot be used. The message is one line: the file's name, then the reason.
class ImageError : public InputError {
 public:
  ImageError(std::string_view name, const std::string& reason);
  /// The reason alone, e.g. "truncated JPEG".
  const std::string& reason() const { return reason_; }

 private:
  std::string reason_;
};

enum class DecodeMode {
  exact,  // the whole image, as Pillow decodes it
  fast,   // a JPEG may come out at 1/2, 1/4 or 1/8 of its size, both sides still at least target_size
};

struct DecodeOptions {
  DecodeMode mode = DecodeMode::exact;
  int target_size = 0;  // fast: the shortest side, in pixels, that the caller needs; 0: full size
  int64_t max_pixels = 128'000'000;  // a larger image is refused before it is decoded
  bool apply_exif = true;            // turn the image upright
};

enum class ImageFormat { jpeg, png, webp, bmp, gif, tga, pnm, heic, avif, unknown };

/// Its name for people: "JPEG", "PNG", ..., "unknown".
const char* to_string(ImageFormat format);

/// What the bytes are, by their first bytes; TGA, which has no magic number, only under its own extension.
ImageFormat sniff_format(std::span<const uint8_t> bytes, std::string_view name);

struct ImageInfo {
  ImageFormat format = ImageFormat::unknown;
  int width = 0;  // as stored, before EXIF turns the image
  int height = 0;
  int channels = 0;        // as stored; a palette is 1
  int bit_depth = 0;       // of a stored sample
  std::string color_mode;  // "grey", "grey+alpha", "palette", "palette+alpha", "RGB", "RGBA", "CMYK"
  int exif_orientation = 1;
};

/// Reads the header only. Throws ImageError where there is none that can be read.
ImageInfo probe_image(std::span<const uint8_t> bytes, std::string_view name);

/// Changes whenever an image may decode to other pixels than before: our own count, and the libraries'
/// versions.
std::string decoder_version();

/// Decodes to upright 8-bit RGB: alpha composed on white, grey, palette, CMYK and 16 bit (its high byte)
/// converted, the first frame of an animation, ICC profiles ignored. `name` is for messages and for TGA's
/// extension. Throws ImageError for anything damaged, truncated, too large or of another format; no input
/// crashes it or makes it allocate more than the header's checked size allows.
Image decode_image(std::span<const uint8_t> bytes, const DecodeOptions& options, std::string_view name);

}  // namespace cairn::data
