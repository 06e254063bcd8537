// Netpbm: P1 to P6, plain and raw, grey and colour, up to 16 bits. A sample v of maximum m becomes
// round(255 v / m), as Pillow has it (for 16 bits too: these have no high byte to take, m may be anything).
#include <algorithm>

#include "data/decode/internal.h"

namespace cairn::data {

namespace {

bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

class PnmReader {
 public:
  explicit PnmReader(Bytes bytes) : bytes_(bytes) {}

  /// The next whole number, behind white space and comments.
  uint32_t number() {
    skip_space();
    uint32_t value = 0;
    const size_t begin = position_;
    for (; position_ < bytes_.size() && bytes_[position_] >= '0' && bytes_[position_] <= '9'; ++position_) {
      value = value * 10 + (bytes_[position_] - '0');
      if (value > 100'000'000) throw Refusal{"damaged PNM (a number is too large)"};
    }
    if (position_ == begin) throw Refusal{position_ == bytes_.size() ? "truncated PNM" : "damaged PNM"};
    return value;
  }
  /// P1's digits need no space between them.
  uint32_t bit() {
    skip_space();
    if (position_ == bytes_.size()) throw Refusal{"truncated PNM"};
    const uint8_t c = bytes_[position_++];
    if (c != '0' && c != '1') throw Refusal{"damaged PNM"};
    return c - '0';
  }
  /// n raw bytes.
  Bytes raw(uint64_t n) {
    if (n > bytes_.size() - position_) throw Refusal{"truncated PNM"};
    position_ += n;
    return bytes_.subspan(position_ - n, n);
  }
  uint64_t left() const { return bytes_.size() - position_; }

 private:
  void skip_space() {
    while (position_ < bytes_.size() && (is_space(bytes_[position_]) || bytes_[position_] == '#')) {
      if (bytes_[position_] == '#') {
        while (position_ < bytes_.size() && bytes_[position_] != '\n' && bytes_[position_] != '\r')
          ++position_;
      } else {
        ++position_;
      }
    }
  }

  Bytes bytes_;
  size_t position_ = 2;  // behind the magic number
};

struct Header {
  int kind;  // 1 to 6, of P1 to P6
  int64_t width, height;
  uint32_t maximum;
  bool plain() const { return kind <= 3; }
  bool bitmap() const { return kind == 1 || kind == 4; }
  int channels() const { return kind == 3 || kind == 6 ? 3 : 1; }
};

Header read_header(PnmReader& reader, Bytes bytes) {
  Header header{bytes[1] - '0', reader.number(), reader.number(), 1};
  if (!header.bitmap()) header.maximum = reader.number();
  if (header.maximum == 0 || header.maximum > 65535)
    throw Refusal{"damaged PNM (its maximum is not 1 to 65535)"};
  if (!header.plain()) reader.raw(1);  // one white space
  return header;
}

/// Samples as stored, one after another; a bitmap's 1 is black.
template <class Store>
void read_samples(PnmReader& reader, const Header& header, Store store) {
  const int64_t per_row = header.width * header.channels();
  const int64_t n = per_row * header.height;
  if (header.kind == 4) {
    const int64_t stride = (header.width + 7) / 8;
    const Bytes rows = reader.raw(static_cast<uint64_t>(stride * header.height));
    for (int64_t y = 0; y < header.height; ++y) {
      for (int64_t x = 0; x < header.width; ++x) store(1u ^ (rows[y * stride + x / 8] >> (7 - x % 8) & 1u));
    }
  } else if (header.kind == 1) {
    for (int64_t i = 0; i < n; ++i) store(1u ^ reader.bit());
  } else if (header.plain()) {
    for (int64_t i = 0; i < n; ++i) store(std::min(reader.number(), header.maximum));
  } else {
    const int size = header.maximum > 255 ? 2 : 1;
    const Bytes samples = reader.raw(static_cast<uint64_t>(n * size));
    for (int64_t i = 0; i < n; ++i) {
      const uint32_t value = size == 1 ? samples[i] : read_u16_be(&samples[2 * i]);
      store(std::min(value, header.maximum));
    }
  }
}

}  // namespace

ImageInfo probe_pnm(Bytes bytes) {
  PnmReader reader(bytes);
  const Header header = read_header(reader, bytes);
  check_size(header.width, header.height, INT64_MAX);
  ImageInfo info;
  info.width = static_cast<int>(header.width);
  info.height = static_cast<int>(header.height);
  info.channels = header.channels();
  info.bit_depth = header.bitmap() ? 1 : header.maximum > 255 ? 16 : 8;
  info.color_mode = header.channels() == 3 ? "RGB" : "grey";
  return info;
}

Decoded decode_pnm(Bytes bytes, const DecodeOptions& options) {
  PnmReader reader(bytes);
  const Header header = read_header(reader, bytes);
  check_size(header.width, header.height, options.max_pixels);
  // A sample takes a bit (P4) or more of the file: checked before memory is taken for all of them.
  if (static_cast<uint64_t>(header.width * header.height) > 8 * reader.left() + 8)
    throw Refusal{"truncated PNM"};
  Decoded decoded{{static_cast<int>(header.width), static_cast<int>(header.height), {}}, 1};
  decoded.image.rgb.resize(static_cast<size_t>(3 * header.width * header.height));
  uint8_t* out = decoded.image.rgb.data();
  const int copies = header.channels() == 3 ? 1 : 3;
  read_samples(reader, header, [&](uint32_t value) {
    const auto sample = static_cast<uint8_t>((value * 255 + header.maximum / 2) / header.maximum);
    for (int i = 0; i < copies; ++i) *out++ = sample;
  });
  return decoded;
}

}  // namespace cairn::data
