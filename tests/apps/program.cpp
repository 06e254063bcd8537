#include "tests/apps/program.h"

#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <thread>

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

Outcome cairn(const std::string& arguments) { return Running(arguments).end(); }

Running::Running(const std::string& arguments, const std::string& launcher) {
  const std::string command = "exec " + launcher + " " + CAIRN_PROGRAM + " " + arguments + " >" +
                              folder_.path("out") + " 2>" + folder_.path("err") + " </dev/null";
  setenv("OMP_NUM_THREADS", "2", 1);
  setenv("OMP_WAIT_POLICY", "passive",
         1);  // ctest runs several programs at once: threads that spin would starve them
  pid_ = fork();
  if (pid_ == 0) {
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
}

Running::~Running() {
  if (ended()) return;
  send(SIGKILL);
  waitpid(pid_, &status_, 0);
}

bool Running::ended() {
  ended_ = ended_ || pid_ < 0 || waitpid(pid_, &status_, WNOHANG) == pid_;
  return ended_;
}

void Running::send(int signal) const { kill(pid_, signal); }

bool Running::wait_for(const std::function<bool()>& there) {
  while (!there()) {
    if (ended()) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return true;
}

Outcome Running::end() {
  if (!ended_) waitpid(pid_, &status_, 0);
  ended_ = true;
  return {.status = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_),
          .out = read_file(folder_.path("out")),
          .err = read_file(folder_.path("err"))};
}

Mounted::Mounted(const std::string& path, const std::string& options, unsigned long flags) : path_(path) {
  std::filesystem::create_directories(path);
  ok_ = mount("none", path.c_str(), "tmpfs", flags, options.c_str()) == 0;
}

Mounted::~Mounted() {
  if (ok_) umount(path_.c_str());
}

bool Mounted::change(const std::string& options, unsigned long flags) const {
  return mount("none", path_.c_str(), "tmpfs", MS_REMOUNT | flags, options.c_str()) == 0;
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
