#include "tests/apps/program.h"

#include <sys/wait.h>

#include <cstdio>
#include <fstream>
#include <sstream>

#include <jpeglib.h>
#include <zlib.h>

namespace cairn::app {
namespace {

std::string big_endian(unsigned v) {
  return {static_cast<char>(v >> 24), static_cast<char>(v >> 16), static_cast<char>(v >> 8),
          static_cast<char>(v)};
}

std::string chunk(const std::string& type, const std::string& content) {
  const std::string body = type + content;
  const auto crc = static_cast<unsigned>(
      crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size())));
  return big_endian(static_cast<unsigned>(content.size())) + body + big_endian(crc);
}

std::string png(unsigned width, unsigned height, const std::string& rows) {
  std::string packed(compressBound(rows.size()), '\0');
  uLongf size = packed.size();
  compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(rows.data()),
           rows.size());
  packed.resize(size);
  const std::string header = big_endian(width) + big_endian(height) + std::string("\x08\x02\x00\x00\x00", 5);
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + chunk("IDAT", packed) + chunk("IEND", "");
}

}  // namespace

Outcome cairn(const std::string& arguments) {
  const data::TempFolder folder;
  const std::string command = std::string(CAIRN_PROGRAM) + " " + arguments + " >" + folder.path("out") +
                              " 2>" + folder.path("err") + " </dev/null";
  setenv("OMP_NUM_THREADS", "2", 1);
  setenv("OMP_WAIT_POLICY", "passive",
         1);  // ctest runs several programs at once: threads that spin would starve them
  const int status = std::system(command.c_str());
  Outcome outcome;
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = read_file(folder.path("out"));
  outcome.err = read_file(folder.path("err"));
  return outcome;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string make_png(int width, int height, unsigned seed, unsigned tone) {
  std::string rows;
  for (int y = 0; y < height; ++y) {
    rows += '\0';  // filter: none
    for (int i = 0; i < width * 3; ++i) {
      const unsigned noise = philox(seed, 0, static_cast<std::uint64_t>(y * width * 3 + i)).v[0] % 64;
      rows += static_cast<char>((tone * 97 + static_cast<unsigned>(i % 3) * 53) % 192 + noise);
    }
  }
  return png(static_cast<unsigned>(width), static_cast<unsigned>(height), rows);
}

std::string make_png_bomb(unsigned width, unsigned height) {
  return png(width, height, std::string(1000, '\0'));
}

std::string make_jpeg(int width, int height, unsigned seed) {
  jpeg_compress_struct info;
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &memory, &size);
  info.image_width = static_cast<JDIMENSION>(width);
  info.image_height = static_cast<JDIMENSION>(height);
  info.input_components = 3;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_start_compress(&info, TRUE);
  std::string row(static_cast<std::size_t>(width) * 3, '\0');
  for (int y = 0; y < height; ++y) {
    for (std::size_t i = 0; i < row.size(); ++i)
      row[i] = static_cast<char>(philox(seed, 1, static_cast<std::uint64_t>(y) * row.size() + i).v[0] & 0xFF);
    auto* pointer = reinterpret_cast<JSAMPROW>(row.data());
    jpeg_write_scanlines(&info, &pointer, 1);
  }
  jpeg_finish_compress(&info);
  std::string bytes(reinterpret_cast<char*>(memory), size);
  jpeg_destroy_compress(&info);
  std::free(memory);
  return bytes;
}

void make_data(const data::TempFolder& folder, int classes, int images) {
  for (int c = 0; c < classes; ++c)
    for (int i = 0; i < images; ++i)
      folder.write("data/c" + std::to_string(c) + "/" + std::to_string(100 + i) + ".png",
                   make_png(32, 32, static_cast<unsigned>(1000 * c + i), static_cast<unsigned>(c)));
}

}  // namespace cairn::app
