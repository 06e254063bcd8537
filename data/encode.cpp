#include "data/encode.h"

#include <csetjmp>
#include <cstdio>  // jpeglib.h needs it
#include <cstdlib>

#include <jpeglib.h>

#include "kernels/error.h"

namespace cairn::data {
namespace {

struct ErrorManager {
  jpeg_error_mgr base;
  std::jmp_buf back;
};

[[noreturn]] void leave(j_common_ptr info) {
  std::longjmp(reinterpret_cast<ErrorManager*>(info->err)->back, 1);
}

// Plain C: nothing with a destructor lives across the setjmp. The memory is malloc's; null if encoding
// failed.
unsigned char* encode(const uint8_t* rgb, int width, int height, int quality, unsigned long* size) {
  jpeg_compress_struct info;
  ErrorManager errors;
  unsigned char* volatile memory = nullptr;
  unsigned char* out = nullptr;
  *size = 0;
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = leave;
  if (setjmp(errors.back)) {
    jpeg_destroy_compress(&info);
    return nullptr;
  }
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, &out, size);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    auto* row = const_cast<JSAMPLE*>(rgb + size_t{3} * info.image_width * info.next_scanline);
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  memory = out;
  jpeg_destroy_compress(&info);
  return memory;
}

}  // namespace

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  if (image.width < 1 || image.height < 1 || image.width > 65535 || image.height > 65535)
    throw Error("an image of " + std::to_string(image.width) + " x " + std::to_string(image.height) +
                " pixels cannot be a JPEG");
  unsigned long size = 0;
  unsigned char* memory = encode(image.rgb.data(), image.width, image.height, quality, &size);
  if (!memory) throw Error("libjpeg could not encode an image");
  std::vector<uint8_t> bytes(memory, memory + size);
  std::free(memory);
  return bytes;
}

std::string base64(const std::vector<uint8_t>& bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = uint32_t{bytes[i]} << 16;
    if (n > 1) word |= uint32_t{bytes[i + 1]} << 8;
    if (n > 2) word |= bytes[i + 2];
    for (size_t k = 0; k < 4; ++k) text += k <= n ? kDigits[word >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

}  // namespace cairn::data
