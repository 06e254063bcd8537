#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/decode/decode.h"

namespace cairn::data {

// What decode.cpp and the decoders of the single formats share. Private to data/decode.

using Bytes = std::span<const uint8_t>;

/// Thrown by the decoders; decode.cpp adds the file's name and makes it an ImageError.
struct Refusal {
  std::string reason;
};

/// An image as stored, and how it is to be turned.
struct Decoded {
  Image image;
  int orientation = 1;
};

/// Throws Refusal unless width and height are positive and their product is at most max_pixels.
void check_size(int64_t width, int64_t height, int64_t max_pixels);

/// One sample composed on white, as Pillow's alpha_composite computes it: with u = value * alpha +
/// 255 (255 - alpha) + 128, (u + u / 256) / 256 in whole numbers.
inline uint8_t on_white(uint32_t value, uint32_t alpha) {
  const uint32_t u = value * alpha + 255 * (255 - alpha) + 128;
  return static_cast<uint8_t>((u + (u >> 8)) >> 8);
}

/// [n, 4] RGBA -> [n, 3] RGB on white. rgb may be rgba itself.
void compose_on_white(const uint8_t* rgba, int64_t n, uint8_t* rgb);

inline uint32_t read_u16_be(const uint8_t* p) { return static_cast<uint32_t>(p[0] << 8 | p[1]); }
inline uint32_t read_u32_be(const uint8_t* p) { return read_u16_be(p) << 16 | read_u16_be(p + 2); }
inline uint32_t read_u32_le(const uint8_t* p) {
  return static_cast<uint32_t>(p[0] | p[1] << 8 | p[2] << 16) | static_cast<uint32_t>(p[3]) << 24;
}

// Of the libraries: as text, "none" where one is not there.
std::string jpeg_version();
std::string webp_version();

ImageInfo probe_jpeg(Bytes bytes);
Decoded decode_jpeg(Bytes bytes, const DecodeOptions& options);
ImageInfo probe_png(Bytes bytes);
Decoded decode_png(Bytes bytes, const DecodeOptions& options);
ImageInfo probe_webp(Bytes bytes);
Decoded decode_webp(Bytes bytes, const DecodeOptions& options);
ImageInfo probe_pnm(Bytes bytes);
Decoded decode_pnm(Bytes bytes, const DecodeOptions& options);
/// BMP, GIF and TGA.
ImageInfo probe_stb(Bytes bytes, ImageFormat format);
Decoded decode_stb(Bytes bytes, ImageFormat format, const DecodeOptions& options);

}  // namespace cairn::data
