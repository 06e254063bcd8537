// BMP, GIF (its first frame) and TGA through stb_image.
#include <climits>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "data/decode/internal.h"

namespace {

// The largest single block that stb_image may have: its GIF and TGA readers allocate by what files say.
thread_local size_t allowed_bytes = 0;

void* stb_malloc(size_t size) { return size <= allowed_bytes ? std::malloc(size) : nullptr; }
void* stb_realloc(void* block, size_t size) {
  return size <= allowed_bytes ? std::realloc(block, size) : nullptr;
}

}  // namespace

#define STBI_MALLOC(size) stb_malloc(size)
#define STBI_REALLOC(block, size) stb_realloc(block, size)
#define STBI_FREE(block) std::free(block)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_ONLY_BMP
#define STBI_ONLY_GIF
#define STBI_ONLY_TGA
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <stb_image.h>
#pragma GCC diagnostic pop

namespace cairn::data {

namespace {

/// Feeds stb_image, which takes the missing end of a file for zeros, and notes that it wanted more.
struct Feed {
  explicit Feed(Bytes file) : bytes(file) { stbi__start_callbacks(&context, &kCallbacks, this); }
  Feed(const Feed&) = delete;
  Feed& operator=(const Feed&) = delete;

  static stbi_io_callbacks kCallbacks;  // only read; stb_image asks for it without const
  Bytes bytes;
  size_t position = 0;
  bool ran_out = false;
  stbi__context context;

  static int read(void* user, char* data, int size) {
    Feed& feed = *static_cast<Feed*>(user);
    const size_t wanted = size > 0 ? static_cast<size_t>(size) : 0;
    const size_t got = std::min(wanted, feed.bytes.size() - feed.position);
    if (got > 0) std::memcpy(data, feed.bytes.data() + feed.position, got);
    feed.position += got;
    // A refill of the buffer asks for more than the picture may need: only nothing at all is too little
    // there.
    const bool refill = data == reinterpret_cast<const char*>(feed.context.buffer_start);
    feed.ran_out = feed.ran_out || (refill ? got == 0 : got < wanted);
    return static_cast<int>(got);
  }
  static void skip(void* user, int size) {
    Feed& feed = *static_cast<Feed*>(user);
    if (size < 0) {
      feed.position -= std::min(feed.position, static_cast<size_t>(-static_cast<int64_t>(size)));
    } else {
      const size_t left = feed.bytes.size() - feed.position;
      feed.ran_out = feed.ran_out || static_cast<size_t>(size) > left;
      feed.position += std::min(static_cast<size_t>(size), left);
    }
  }
  static int eof(void* user) {
    const Feed& feed = *static_cast<Feed*>(user);
    return feed.position >= feed.bytes.size();
  }
};
stbi_io_callbacks Feed::kCallbacks = {Feed::read, Feed::skip, Feed::eof};

constexpr size_t kHeaderBytes = size_t{1} << 20;  // for what is read before the size is known

struct Header {
  int width, height, channels;
};

// stb_image leaves it empty where an image has no pixels to read.
std::string reason() {
  const char* reason = stbi_failure_reason();
  return reason && *reason ? reason : "no image data";
}

Header read_header(Bytes bytes, ImageFormat format) {
  allowed_bytes = kHeaderBytes;
  Feed feed(bytes);
  Header header{};
  if (!stbi__info_main(&feed.context, &header.width, &header.height, &header.channels)) {
    throw Refusal{feed.ran_out ? std::string("truncated ") + to_string(format)
                               : std::string("damaged ") + to_string(format) + " header (" + reason() + ")"};
  }
  return header;
}

/// stb_image turns a TGA's rows upright and overlooks that they may run from right to left (bit 4 of the
/// descriptor).
void mirror_rows(Image& image) {
  for (int y = 0; y < image.height; ++y) {
    uint8_t* row = image.rgb.data() + size_t{3} * y * image.width;
    for (int a = 0, b = image.width - 1; a < b; ++a, --b)
      std::swap_ranges(row + 3 * a, row + 3 * a + 3, row + 3 * b);
  }
}

/// A BMP of 32 bits without masks has a fourth byte that means nothing.
bool has_alpha(Bytes bytes, ImageFormat format, int channels) {
  if (format == ImageFormat::bmp && bytes.size() >= 34 && read_u32_le(&bytes[30]) == 0) return false;
  return channels == 2 || channels == 4;
}

}  // namespace

ImageInfo probe_stb(Bytes bytes, ImageFormat format) {
  const Header header = read_header(bytes, format);
  ImageInfo info;
  info.width = header.width;
  info.height = header.height;
  info.channels = header.channels;
  info.bit_depth = 8;
  const bool alpha = has_alpha(bytes, format, header.channels);
  info.color_mode = format == ImageFormat::gif ? "palette"
                    : header.channels <= 2     ? "grey"
                    : alpha                    ? "RGBA"
                                               : "RGB";
  if (alpha && format != ImageFormat::gif && header.channels == 2) info.color_mode += "+alpha";
  return info;
}

Decoded decode_stb(Bytes bytes, ImageFormat format, const DecodeOptions& options) {
  const Header header = read_header(bytes, format);
  check_size(header.width, header.height, options.max_pixels);
  const bool alpha = format == ImageFormat::gif || has_alpha(bytes, format, header.channels);
  const int channels = alpha ? 4 : 3;
  const int64_t pixels = int64_t{header.width} * header.height;
  allowed_bytes = kHeaderBytes + static_cast<size_t>(8 * pixels);
  Feed feed(bytes);
  int width = 0, height = 0, stored_channels = 0;
  const std::unique_ptr<stbi_uc, decltype(&std::free)> samples(
      stbi__load_and_postprocess_8bit(&feed.context, &width, &height, &stored_channels, channels),
      &std::free);
  if (feed.ran_out) throw Refusal{std::string("truncated ") + to_string(format)};
  if (!samples) {
    throw Refusal{std::string("damaged ") + to_string(format) + " (" + reason() + ")"};
  }
  if (width != header.width || height != header.height)
    throw Refusal{std::string("damaged ") + to_string(format)};
  Decoded decoded{{width, height, {}}, 1};
  decoded.image.rgb.resize(static_cast<size_t>(3 * pixels));
  if (alpha) {
    compose_on_white(samples.get(), pixels, decoded.image.rgb.data());
  } else {
    std::memcpy(decoded.image.rgb.data(), samples.get(), static_cast<size_t>(3 * pixels));
  }
  if (format == ImageFormat::tga && (bytes[17] & 0x10)) mirror_rows(decoded.image);
  return decoded;
}

}  // namespace cairn::data
