// JPEG through libjpeg's API, with Pillow's settings: accurate integer DCT, smooth chroma upsampling.
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>

#include "data/decode/internal.h"
#include "data/exif.h"

namespace cairn::data {

namespace {

// An encoder makes about ten scans; each costs a pass over the whole image, so that thousands are an attack.
constexpr int kMaxScans = 100;
constexpr size_t kMaxMessage = JMSG_LENGTH_MAX;

/// libjpeg reports through C callbacks and leaves by longjmp: everything that a longjmp crosses here is plain
/// data.
struct ErrorManager {
  jpeg_error_mgr base;  // first: libjpeg's pointer to it is a pointer to this
  std::jmp_buf escape;
  int warning;  // code of the first warning that counts, or 0
  char message[kMaxMessage];
};

ErrorManager* manager_of(j_common_ptr codec) { return reinterpret_cast<ErrorManager*>(codec->err); }

[[noreturn]] void leave(j_common_ptr codec) {
  ErrorManager* manager = manager_of(codec);
  manager->base.format_message(codec, manager->message);
  std::longjmp(manager->escape, 1);
}

/// Whether a warning says that pixels are not what was encoded. Odd markers, and stray bytes once all pixels
/// are there (some cameras pad so), are no damage.
bool is_damage(const jpeg_error_mgr& error) {
  if (error.msg_code == JWRN_EXTRANEOUS_DATA) return error.msg_parm.i[1] != JPEG_EOI;
  return error.msg_code != JWRN_ADOBE_XFORM && error.msg_code != JWRN_JFIF_MAJOR;
}

void on_message(j_common_ptr codec, int level) {
  ErrorManager* manager = manager_of(codec);
  if (level < 0 && manager->warning == 0 && is_damage(manager->base)) {
    manager->warning = manager->base.msg_code;
    manager->base.format_message(codec, manager->message);
  }
}

void on_progress(j_common_ptr codec) {
  if (reinterpret_cast<j_decompress_ptr>(codec)->input_scan_number > kMaxScans) {
    ErrorManager* manager = manager_of(codec);
    std::snprintf(manager->message, kMaxMessage, "more than %d scans", kMaxScans);
    std::longjmp(manager->escape, 1);
  }
}

class JpegReader {
 public:
  explicit JpegReader(Bytes bytes) : bytes_(bytes) {
    codec_.err = jpeg_std_error(&error_.base);
    error_.base.error_exit = leave;
    error_.base.emit_message = on_message;
    error_.warning = 0;
    if (setjmp(error_.escape) == 0) {
      jpeg_create_decompress(&codec_);
      progress_.progress_monitor = on_progress;
      codec_.progress = &progress_;
      jpeg_mem_src(&codec_, bytes_.data(), static_cast<unsigned long>(bytes_.size()));
      jpeg_save_markers(&codec_, JPEG_APP0 + 1, 0xFFFF);
    } else {
      failed_ = true;
    }
  }
  ~JpegReader() { jpeg_destroy_decompress(&codec_); }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  /// Reads up to the first scan; width(), height() and info() hold afterwards.
  void read_header() {
    if (failed_ || !try_read_header()) refuse();
  }
  /// Chooses scale and colours and begins; output size holds afterwards.
  void start(const DecodeOptions& options) {
    if (!try_start(options)) refuse();
    refuse_damage();
  }
  void read_rows(uint8_t* pixels) {
    if (!try_read_rows(pixels)) refuse();
    refuse_damage();
  }
  const jpeg_decompress_struct& codec() const { return codec_; }

  int orientation() const {
    for (const jpeg_marker_struct* m = codec_.marker_list; m; m = m->next) {
      if (m->data_length >= 6 && std::memcmp(m->data, "Exif\0\0", 6) == 0) {
        return exif_orientation({m->data, m->data_length});
      }
    }
    return 1;
  }
  bool is_cmyk() const { return codec_.out_color_space == JCS_CMYK; }

 private:
  bool try_read_header() {
    if (setjmp(error_.escape) != 0) return false;
    jpeg_read_header(&codec_, TRUE);
    return true;
  }

  bool try_start(const DecodeOptions& options) {
    if (setjmp(error_.escape) != 0) return false;
    codec_.out_color_space = codec_.num_components == 4 ? JCS_CMYK : JCS_RGB;
    codec_.dct_method = JDCT_ISLOW;
    if (options.mode == DecodeMode::fast && options.target_size > 0) {
      const auto target = static_cast<JDIMENSION>(options.target_size);
      const JDIMENSION shorter = std::min(codec_.image_width, codec_.image_height);
      codec_.scale_num = 1;
      codec_.scale_denom = 1;
      while (codec_.scale_denom < 8 &&
             (shorter + 2 * codec_.scale_denom - 1) / (2 * codec_.scale_denom) >= target) {
        codec_.scale_denom *= 2;
      }
    }
    jpeg_start_decompress(&codec_);
    return true;
  }

  bool try_read_rows(uint8_t* pixels) {
    if (setjmp(error_.escape) != 0) return false;
    const size_t stride =
        static_cast<size_t>(codec_.output_width) * static_cast<size_t>(codec_.output_components);
    while (codec_.output_scanline < codec_.output_height) {
      JSAMPROW rows[8];
      for (JDIMENSION i = 0; i < 8; ++i) {
        rows[i] = pixels + stride * std::min(codec_.output_scanline + i, codec_.output_height - 1);
      }
      jpeg_read_scanlines(&codec_, rows,
                          std::min<JDIMENSION>(8, codec_.output_height - codec_.output_scanline));
    }
    jpeg_finish_decompress(&codec_);
    return true;
  }

  void refuse_damage() {
    if (error_.warning != 0) refuse();
  }
  [[noreturn]] void refuse() const {
    const int code = error_.warning != 0 ? error_.warning : error_.base.msg_code;
    if (code == JWRN_JPEG_EOF || code == JERR_INPUT_EOF) throw Refusal{"truncated JPEG"};
    std::string reason = error_.message;
    if (reason.starts_with("Corrupt JPEG data: ")) reason.erase(0, std::strlen("Corrupt JPEG data: "));
    throw Refusal{"damaged JPEG (" + reason + ")"};
  }

  Bytes bytes_;
  jpeg_decompress_struct codec_{};
  jpeg_progress_mgr progress_{};
  ErrorManager error_{};
  bool failed_ = false;
};

void check_header(const jpeg_decompress_struct& codec, Bytes bytes, int64_t max_pixels) {
  check_size(codec.image_width, codec.image_height, max_pixels);
  if (codec.data_precision != 8) {
    throw Refusal{"JPEG with " + std::to_string(codec.data_precision) + " bits a sample: only 8 are read"};
  }
  if (codec.num_components != 1 && codec.num_components != 3 && codec.num_components != 4) {
    throw Refusal{"JPEG with " + std::to_string(codec.num_components) + " components"};
  }
  // Every 8 x 8 block costs at least a bit: a small file that claims millions of them is cut off (or a bomb).
  const uint64_t blocks = uint64_t{codec.image_width / 8} * (codec.image_height / 8);
  if (!codec.arith_code && blocks > uint64_t{8} * bytes.size()) throw Refusal{"truncated JPEG"};
}

/// Adobe's inverted CMYK, as Pillow takes every four-component JPEG, to RGB as Pillow converts it:
/// c' (here: c = 255 - stored) -> (255 - k) - c (255 - k) / 255, rounded.
void cmyk_to_rgb(const uint8_t* cmyk, int64_t n, uint8_t* rgb) {
  for (int64_t i = 0; i < n; ++i, cmyk += 4, rgb += 3) {
    const uint32_t light = cmyk[3];
    for (int c = 0; c < 3; ++c) {
      const uint32_t product = (255u - cmyk[c]) * light + 128;
      rgb[c] = static_cast<uint8_t>(light - (((product >> 8) + product) >> 8));
    }
  }
}

}  // namespace

std::string jpeg_version() {
#ifdef LIBJPEG_TURBO_VERSION_NUMBER
  return "turbo " + std::to_string(LIBJPEG_TURBO_VERSION_NUMBER);
#else
  return std::to_string(JPEG_LIB_VERSION);
#endif
}

ImageInfo probe_jpeg(Bytes bytes) {
  JpegReader reader(bytes);
  reader.read_header();
  const jpeg_decompress_struct& codec = reader.codec();
  ImageInfo info;
  info.width = static_cast<int>(codec.image_width);
  info.height = static_cast<int>(codec.image_height);
  info.channels = codec.num_components;
  info.bit_depth = codec.data_precision;
  info.color_mode = codec.num_components == 1 ? "grey" : codec.num_components == 4 ? "CMYK" : "RGB";
  info.exif_orientation = reader.orientation();
  return info;
}

Decoded decode_jpeg(Bytes bytes, const DecodeOptions& options) {
  JpegReader reader(bytes);
  reader.read_header();
  check_header(reader.codec(), bytes, options.max_pixels);
  reader.start(options);
  Decoded decoded;
  Image& image = decoded.image;
  image.width = static_cast<int>(reader.codec().output_width);
  image.height = static_cast<int>(reader.codec().output_height);
  decoded.orientation = reader.orientation();
  const int64_t pixels = int64_t{image.width} * image.height;
  image.rgb.resize(static_cast<size_t>(3 * pixels));
  if (reader.is_cmyk()) {
    std::vector<uint8_t> cmyk(static_cast<size_t>(4 * pixels));
    reader.read_rows(cmyk.data());
    cmyk_to_rgb(cmyk.data(), pixels, image.rgb.data());
  } else {
    reader.read_rows(image.rgb.data());
  }
  return decoded;
}

}  // namespace cairn::data
