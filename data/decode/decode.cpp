#include "data/decode/decode.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "data/csv.h"
#include "data/decode/internal.h"
#include "data/exif.h"

namespace cairn::data {

namespace {

constexpr const char* kNoPixels = "an image without pixels";

bool starts_with(Bytes bytes, std::string_view text, size_t offset = 0) {
  return bytes.size() >= offset + text.size() &&
         std::memcmp(bytes.data() + offset, text.data(), text.size()) == 0;
}

bool has_extension(std::string_view name, std::string_view extension) {
  return name.size() >= extension.size() &&
         std::equal(extension.rbegin(), extension.rend(), name.rbegin(),
                    [](char a, char b) { return a == std::tolower(static_cast<unsigned char>(b)); });
}

/// HEIC and AVIF lie in ISO media files, told apart by their brands.
ImageFormat sniff_iso_media(Bytes bytes) {
  const size_t box = std::min<size_t>(read_u32_be(bytes.data()), bytes.size());
  bool heic = false;
  for (size_t offset = 8; offset + 4 <= box; offset += 4) {
    if (starts_with(bytes, "avif", offset) || starts_with(bytes, "avis", offset)) return ImageFormat::avif;
    for (const char* brand : {"heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "msf1"}) {
      heic = heic || starts_with(bytes, brand, offset);
    }
  }
  return heic ? ImageFormat::heic : ImageFormat::unknown;
}

/// Why bytes of no known format cannot be read.
std::string unknown_reason(Bytes bytes) {
  if (bytes.empty()) return "empty file";
  if (std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == 0; })) return "only zero bytes";
  if (starts_with(bytes, std::string_view("II*\0", 4)) || starts_with(bytes, std::string_view("MM\0*", 4))) {
    return "TIFF images are not read: convert it to PNG first";
  }
  if (starts_with(bytes, "8BPS")) return "Photoshop files are not read: convert it to PNG first";
  if (starts_with(bytes, "<svg") || starts_with(bytes, "<?xml")) {
    return "drawings (SVG, XML) are not read: convert it to PNG first";
  }
  const size_t shown = std::min<size_t>(bytes.size(), 512);
  if (std::all_of(bytes.begin(), bytes.begin() + static_cast<int64_t>(shown),
                  [](uint8_t b) { return b >= 32 ? b != 127 : b == '\n' || b == '\r' || b == '\t'; })) {
    return "a text file, no image";
  }
  return "no image of a format that cairn reads (JPEG, PNG, WebP, BMP, GIF, TGA, PNM)";
}

[[noreturn]] void refuse_format(Bytes bytes, ImageFormat format) {
  if (format == ImageFormat::heic) {
    throw Refusal{
        "HEIC images are not read: convert it with `heif-convert IN.heic OUT.png` (Debian: "
        "libheif-examples)"};
  }
  if (format == ImageFormat::avif) {
    throw Refusal{
        "AVIF images are not read: convert it with `avifdec IN.avif OUT.png` (Debian: libavif-bin)"};
  }
  throw Refusal{unknown_reason(bytes)};
}

Decoded decode_as(ImageFormat format, Bytes bytes, const DecodeOptions& options) {
  switch (format) {
    case ImageFormat::jpeg:
      return decode_jpeg(bytes, options);
    case ImageFormat::png:
      return decode_png(bytes, options);
    case ImageFormat::webp:
      return decode_webp(bytes, options);
    case ImageFormat::pnm:
      return decode_pnm(bytes, options);
    case ImageFormat::bmp:
    case ImageFormat::gif:
    case ImageFormat::tga:
      return decode_stb(bytes, format, options);
    default:
      refuse_format(bytes, format);
  }
}

ImageInfo probe_as(ImageFormat format, Bytes bytes) {
  switch (format) {
    case ImageFormat::jpeg:
      return probe_jpeg(bytes);
    case ImageFormat::png:
      return probe_png(bytes);
    case ImageFormat::webp:
      return probe_webp(bytes);
    case ImageFormat::pnm:
      return probe_pnm(bytes);
    case ImageFormat::bmp:
    case ImageFormat::gif:
    case ImageFormat::tga:
      return probe_stb(bytes, format);
    default:
      refuse_format(bytes, format);
  }
}

}  // namespace

ImageError::ImageError(std::string_view name, const std::string& reason)
    : InputError(printable(name) + ": " + reason), reason_(reason) {}

const char* to_string(ImageFormat format) {
  switch (format) {
    case ImageFormat::jpeg:
      return "JPEG";
    case ImageFormat::png:
      return "PNG";
    case ImageFormat::webp:
      return "WebP";
    case ImageFormat::bmp:
      return "BMP";
    case ImageFormat::gif:
      return "GIF";
    case ImageFormat::tga:
      return "TGA";
    case ImageFormat::pnm:
      return "PNM";
    case ImageFormat::heic:
      return "HEIC";
    case ImageFormat::avif:
      return "AVIF";
    default:
      return "unknown";
  }
}

ImageFormat sniff_format(std::span<const uint8_t> bytes, std::string_view name) {
  if (starts_with(bytes, "\xFF\xD8\xFF")) return ImageFormat::jpeg;
  if (starts_with(bytes, "\x89PNG\r\n\x1A\n")) return ImageFormat::png;
  if (starts_with(bytes, "RIFF") && starts_with(bytes, "WEBP", 8)) return ImageFormat::webp;
  if (starts_with(bytes, "GIF87a") || starts_with(bytes, "GIF89a")) return ImageFormat::gif;
  if (starts_with(bytes, "ftyp", 4)) return sniff_iso_media(bytes);
  // "BM" alone begins many a text: the header's size must be one that exists.
  if (starts_with(bytes, "BM") && bytes.size() >= 18 && read_u32_le(bytes.data() + 14) <= 124) {
    return ImageFormat::bmp;
  }
  if (bytes.size() >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' &&
      std::isspace(static_cast<unsigned char>(bytes[2]))) {
    return ImageFormat::pnm;
  }
  if (has_extension(name, ".tga") && bytes.size() >= 18 && bytes[1] <= 1) return ImageFormat::tga;
  return ImageFormat::unknown;
}

void check_size(int64_t width, int64_t height, int64_t max_pixels) {
  if (width <= 0 || height <= 0) throw Refusal{kNoPixels};
  // Both are below 2^32, so that the product does not overflow 64 bits unsigned.
  const uint64_t pixels = static_cast<uint64_t>(width) * static_cast<uint64_t>(height);
  if (pixels > static_cast<uint64_t>(std::max<int64_t>(max_pixels, 0))) {
    const uint64_t millions = pixels / 1'000'000;
    throw Refusal{
        (millions > 0 ? std::to_string(millions) + " megapixels" : std::to_string(pixels) + " pixels") +
        ", more than --max-pixels " + std::to_string(max_pixels)};
  }
}

void compose_on_white(const uint8_t* rgba, int64_t n, uint8_t* rgb) {
  for (int64_t i = 0; i < n; ++i, rgba += 4, rgb += 3) {
    const uint32_t alpha = rgba[3];
    rgb[0] = on_white(rgba[0], alpha);
    rgb[1] = on_white(rgba[1], alpha);
    rgb[2] = on_white(rgba[2], alpha);
  }
}

std::string decoder_version() {
  constexpr int kOwnVersion = 2;  // raise it with any change of pixels
  return std::to_string(kOwnVersion) + ", libjpeg " + jpeg_version() + ", libwebp " + webp_version();
}

ImageInfo probe_image(std::span<const uint8_t> bytes, std::string_view name) {
  try {
    const ImageFormat format = sniff_format(bytes, name);
    ImageInfo info = probe_as(format, bytes);
    if (info.width < 1 || info.height < 1) throw Refusal{kNoPixels};
    info.format = format;
    return info;
  } catch (const Refusal& refusal) {
    throw ImageError(name, refusal.reason);
  }
}

Image decode_image(std::span<const uint8_t> bytes, const DecodeOptions& options, std::string_view name) {
  try {
    Decoded decoded = decode_as(sniff_format(bytes, name), bytes, options);
    if (!options.apply_exif) return std::move(decoded.image);
    return apply_orientation(std::move(decoded.image), decoded.orientation);
  } catch (const Refusal& refusal) {
    throw ImageError(name, refusal.reason);
  }
}

}  // namespace cairn::data
