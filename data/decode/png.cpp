// PNG (ISO/IEC 15948): every chunk's CRC is checked, and the header's size before anything is inflated.
// 16-bit samples keep their high byte; samples of 1, 2 and 4 bits are scaled to 255; gamma and colour
// profiles are ignored; a palette index beyond the palette is black.
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "data/decode/inflate.h"
#include "data/decode/internal.h"
#include "data/decode/png_filter.h"
#include "data/exif.h"

namespace cairn::data {

namespace {

enum ColorType : uint8_t { kGrey = 0, kRgb = 2, kPalette = 3, kGreyAlpha = 4, kRgba = 6 };

struct PngFile {
  int64_t width = 0, height = 0;
  int depth = 0;
  uint8_t color = 0;
  bool interlaced = false;
  std::vector<Bytes> image_data;
  Bytes palette;       // [n, 3]
  Bytes transparency;  // tRNS as stored
  bool has_transparency = false;
  int orientation = 1;
  bool ended = false;

  int channels() const { return color == kRgb ? 3 : color == kRgba ? 4 : color == kGreyAlpha ? 2 : 1; }
  int64_t row_bytes(int64_t columns) const { return (columns * channels() * depth + 7) / 8; }
  /// Bytes between a byte and the one that filters take for its left neighbour.
  int filter_step() const { return std::max(1, channels() * depth / 8); }
};

void read_header(PngFile& png, Bytes data) {
  if (data.size() != 13) throw Refusal{"PNG with a damaged header"};
  png.width = read_u32_be(&data[0]);
  png.height = read_u32_be(&data[4]);
  png.depth = data[8];
  png.color = data[9];
  png.interlaced = data[12] == 1;
  const bool depth_ok =
      png.color == kGrey      ? png.depth <= 16 && (png.depth & (png.depth - 1)) == 0 && png.depth > 0
      : png.color == kPalette ? png.depth <= 8 && (png.depth & (png.depth - 1)) == 0 && png.depth > 0
                              : png.depth == 8 || png.depth == 16;
  const bool color_ok = png.color <= kRgba && png.color != 1 && png.color != 5;
  if (!depth_ok || !color_ok || data[10] != 0 || data[11] != 0 || data[12] > 1 || png.width > INT32_MAX ||
      png.height > INT32_MAX || png.width == 0 || png.height == 0) {
    throw Refusal{"PNG with a damaged header"};
  }
}

void read_transparency(PngFile& png, Bytes data) {
  const size_t expected = png.color == kGrey ? 2 : png.color == kRgb ? 6 : 0;
  const bool ok = png.color == kPalette ? data.size() <= 256 : expected > 0 && data.size() == expected;
  if (!ok) throw Refusal{"PNG with a damaged tRNS chunk"};
  png.transparency = data;
  png.has_transparency = true;
}

std::string printable_type(const uint8_t* type) {
  std::string text;
  for (int i = 0; i < 4; ++i) text += type[i] > 32 && type[i] < 127 ? static_cast<char>(type[i]) : '?';
  return text;
}

/// Reads the chunk at `offset` into `png` and gives the next one's offset.
size_t read_chunk(PngFile& png, Bytes bytes, size_t offset) {
  if (bytes.size() - offset < 12) throw Refusal{"truncated PNG"};
  const uint64_t size = read_u32_be(&bytes[offset]);
  const uint8_t* type = &bytes[offset + 4];
  if (size > INT32_MAX || size > bytes.size() - offset - 12) throw Refusal{"truncated PNG"};
  const Bytes data = bytes.subspan(offset + 8, size);
  const uLong crc = crc32(crc32(0, nullptr, 0), type, static_cast<uInt>(size + 4));
  if (crc != read_u32_be(&bytes[offset + 8 + size])) {
    throw Refusal{"PNG chunk " + printable_type(type) + " has a wrong CRC"};
  }
  const auto is = [&](const char* name) { return std::memcmp(type, name, 4) == 0; };
  const bool first = png.width == 0;
  if (first != is("IHDR")) throw Refusal{first ? "PNG without its header first" : "PNG with two headers"};
  if (first) {
    read_header(png, data);
  } else if (is("PLTE")) {
    if (data.size() % 3 != 0 || data.size() > 3 * 256) throw Refusal{"PNG with a damaged palette"};
    png.palette = data;
  } else if (is("tRNS")) {
    read_transparency(png, data);
  } else if (is("eXIf")) {
    png.orientation = exif_orientation(data);
  } else if (is("IDAT")) {
    png.image_data.push_back(data);
  } else if (is("IEND")) {
    png.ended = true;
  } else if ((type[0] & 0x20) == 0) {  // a capital: a decoder must know it
    throw Refusal{"PNG with the unknown chunk " + printable_type(type)};
  }
  return offset + 12 + size;
}

PngFile read_chunks(Bytes bytes, int64_t max_pixels) {
  PngFile png;
  size_t offset = 8;
  while (!png.ended) {
    offset = read_chunk(png, bytes, offset);
    check_size(png.width, png.height, max_pixels);
  }
  if (png.image_data.empty()) throw Refusal{"PNG without image data"};
  if (png.color == kPalette && png.palette.empty()) throw Refusal{"PNG without its palette"};
  return png;
}

/// One of Adam7's seven passes: every step-th pixel from the origin.
struct Pass {
  int x0, y0, step_x, step_y;
  int64_t columns(int64_t width) const { return (width - x0 + step_x - 1) / step_x; }
  int64_t rows(int64_t height) const { return (height - y0 + step_y - 1) / step_y; }
};
constexpr Pass kAdam7[7] = {{0, 0, 8, 8}, {4, 0, 8, 8}, {0, 4, 4, 8}, {2, 0, 4, 4},
                            {0, 2, 2, 4}, {1, 0, 2, 2}, {0, 1, 1, 2}};
constexpr Pass kWhole = {0, 0, 1, 1};

std::span<const Pass> passes_of(const PngFile& png) {
  return png.interlaced ? std::span<const Pass>(kAdam7) : std::span<const Pass>(&kWhole, 1);
}

int64_t pass_bytes(const PngFile& png, const Pass& pass) {
  const int64_t columns = pass.columns(png.width), rows = pass.rows(png.height);
  return columns > 0 && rows > 0 ? rows * (1 + png.row_bytes(columns)) : 0;
}

/// Undoes the filters of one pass in place: rows of a filter byte and row_bytes.
void unfilter_pass(uint8_t* pass, int64_t rows, int64_t row_bytes, int step) {
  const std::vector<uint8_t> zeros(static_cast<size_t>(row_bytes));
  const uint8_t* above = zeros.data();
  for (int64_t y = 0; y < rows; ++y, pass += 1 + row_bytes) {
    if (!undo_png_filter(pass[0], pass + 1, above, row_bytes, step)) {
      throw Refusal{"PNG with an unknown filter in a row"};
    }
    above = pass + 1;
  }
}

/// Puts a pass's pixels in their places of the whole image's rows.
void scatter_pass(const PngFile& png, const Pass& pass, const uint8_t* rows, uint8_t* image, int64_t stride) {
  const int64_t columns = pass.columns(png.width), row_bytes = png.row_bytes(columns);
  const int bits = png.channels() * png.depth;
  for (int64_t y = 0; y < pass.rows(png.height); ++y, rows += 1 + row_bytes) {
    uint8_t* out = image + (pass.y0 + y * pass.step_y) * stride;
    for (int64_t i = 0; i < columns; ++i) {
      const int64_t x = pass.x0 + i * pass.step_x;
      if (bits >= 8) {
        std::memcpy(out + x * (bits / 8), rows + 1 + i * (bits / 8), static_cast<size_t>(bits / 8));
      } else {
        const int value = rows[1 + i * bits / 8] >> (8 - bits - i * bits % 8) & ((1 << bits) - 1);
        out[x * bits / 8] = static_cast<uint8_t>(out[x * bits / 8] | value << (8 - bits - x * bits % 8));
      }
    }
  }
}

using PaletteRgb = std::array<std::array<uint8_t, 3>, 256>;

PaletteRgb palette_on_white(const PngFile& png) {
  PaletteRgb table{};
  for (size_t i = 0; i < png.palette.size() / 3; ++i) {
    const uint32_t alpha = i < png.transparency.size() ? png.transparency[i] : 255;
    for (int c = 0; c < 3; ++c) table[i][c] = on_white(png.palette[3 * i + c], alpha);
  }
  return table;
}

/// One row of samples as stored -> RGB.
class RowConverter {
 public:
  explicit RowConverter(const PngFile& png) : png_(png) {
    if (png.color == kPalette) table_ = palette_on_white(png);
    if (png.color == kGrey && png.depth <= 8) {
      const int levels = (1 << png.depth) - 1;
      const int clear = png.has_transparency ? static_cast<int>(read_u16_be(png.transparency.data())) : -1;
      for (int v = 0; v <= levels; ++v) {
        table_[v].fill(static_cast<uint8_t>(v == clear ? 255 : v * 255 / levels));
      }
    }
  }

  void convert(const uint8_t* row, uint8_t* rgb) const {
    const int64_t width = png_.width;
    if (png_.color == kPalette || (png_.color == kGrey && png_.depth <= 8)) {
      convert_table(row, rgb);
    } else if (png_.color == kRgba && png_.depth == 8) {
      compose_on_white(row, width, rgb);
    } else if (png_.color == kRgb && png_.depth == 8 && !png_.has_transparency) {
      std::memcpy(rgb, row, static_cast<size_t>(3 * width));
    } else {
      convert_any(row, rgb);
    }
  }

 private:
  void convert_table(const uint8_t* row, uint8_t* rgb) const {
    const int depth = png_.depth, mask = (1 << depth) - 1;
    for (int64_t x = 0; x < png_.width; ++x, rgb += 3) {
      const int value = depth == 8 ? row[x] : row[x * depth / 8] >> (8 - depth - x * depth % 8) & mask;
      std::memcpy(rgb, table_[value].data(), 3);
    }
  }

  /// Samples of 8 or 16 bits, with an alpha channel or one transparent colour.
  void convert_any(const uint8_t* row, uint8_t* rgb) const {
    const int size = png_.depth / 8, step = png_.channels() * size;
    const bool color = png_.color == kRgb || png_.color == kRgba;
    const bool alpha_channel = png_.color == kGreyAlpha || png_.color == kRgba;
    for (int64_t x = 0; x < png_.width; ++x, row += step, rgb += 3) {
      uint32_t alpha = 255;
      if (alpha_channel) alpha = row[step - size];
      if (png_.has_transparency && is_clear(row, step)) alpha = 0;
      for (int c = 0; c < 3; ++c) rgb[c] = on_white(row[color ? c * size : 0], alpha);
    }
  }

  /// Whether a pixel is tRNS's colour, whose samples have 16 bits there.
  bool is_clear(const uint8_t* pixel, int step) const {
    if (png_.depth == 16) return std::memcmp(pixel, png_.transparency.data(), static_cast<size_t>(step)) == 0;
    for (int c = 0; c < step; ++c) {
      if (read_u16_be(&png_.transparency[2 * static_cast<size_t>(c)]) != pixel[c]) return false;
    }
    return true;
  }

  const PngFile& png_;
  PaletteRgb table_{};
};

}  // namespace

ImageInfo probe_png(Bytes bytes) {
  PngFile png;
  size_t offset = read_chunk(png, bytes, 8);
  try {
    while (!png.ended) offset = read_chunk(png, bytes, offset);
  } catch (const Refusal&) {
    // The header is there; what comes before the damage is known, and decoding will name it.
  }
  ImageInfo info;
  info.width = static_cast<int>(png.width);
  info.height = static_cast<int>(png.height);
  info.channels = png.channels();
  info.bit_depth = png.depth;
  info.color_mode = png.color == kPalette                           ? "palette"
                    : png.color == kGrey || png.color == kGreyAlpha ? "grey"
                                                                    : "RGB";
  if (png.color == kRgba || (png.color == kRgb && png.has_transparency)) {
    info.color_mode = "RGBA";
  } else if (png.color == kGreyAlpha || png.has_transparency) {
    info.color_mode += "+alpha";
  }
  info.exif_orientation = png.orientation;
  return info;
}

Decoded decode_png(Bytes bytes, const DecodeOptions& options) {
  const PngFile png = read_chunks(bytes, options.max_pixels);
  int64_t raw_bytes = 0, compressed_bytes = 0;
  for (const Pass& pass : passes_of(png)) raw_bytes += pass_bytes(png, pass);
  for (const Bytes& piece : png.image_data) compressed_bytes += static_cast<int64_t>(piece.size());
  // Deflate shrinks at most 1032 to 1: a smaller file that claims more is cut off (or a bomb).
  if (raw_bytes / 1032 > compressed_bytes) throw Refusal{"PNG: it holds fewer pixels than its header says"};
  const auto raw = std::make_unique_for_overwrite<uint8_t[]>(static_cast<size_t>(raw_bytes));
  try {
    inflate_exactly(png.image_data, {raw.get(), static_cast<size_t>(raw_bytes)});
  } catch (const Refusal& refusal) {
    throw Refusal{"PNG: " + refusal.reason};
  }

  const int64_t stride = png.row_bytes(png.width);
  std::vector<uint8_t> whole(png.interlaced ? static_cast<size_t>(stride * png.height) : 0);
  uint8_t* pass_rows = raw.get();
  for (const Pass& pass : passes_of(png)) {
    const int64_t size = pass_bytes(png, pass);
    if (size == 0) continue;
    unfilter_pass(pass_rows, pass.rows(png.height), png.row_bytes(pass.columns(png.width)),
                  png.filter_step());
    if (png.interlaced) scatter_pass(png, pass, pass_rows, whole.data(), stride);
    pass_rows += size;
  }

  Decoded decoded{{static_cast<int>(png.width), static_cast<int>(png.height), {}}, png.orientation};
  decoded.image.rgb.resize(static_cast<size_t>(3 * png.width * png.height));
  const RowConverter converter(png);
  const uint8_t* rows = png.interlaced ? whole.data() : raw.get() + 1;
  const int64_t rows_apart = png.interlaced ? stride : stride + 1;
  for (int64_t y = 0; y < png.height; ++y) {
    converter.convert(rows + y * rows_apart, decoded.image.rgb.data() + 3 * y * png.width);
  }
  return decoded;
}

}  // namespace cairn::data
