#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace cairn::io {

/// A file opened for reading at any offset. Safe from several threads.
class InputFile {
 public:
  /// Throws InputError naming the file and the reason.
  explicit InputFile(std::string path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return size_; }
  /// Bytes [offset, offset + n). Throws InputError if the file does not hold them.
  std::vector<std::uint8_t> read(std::uint64_t offset, std::uint64_t n) const;
  void read(std::uint64_t offset, std::span<std::uint8_t> bytes) const;
  /// InputError "PATH: message".
  [[noreturn]] void fail(const std::string& message) const;

 private:
  void check_range(std::uint64_t offset, std::uint64_t n) const;
  std::string path_;
  int file_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace cairn::io
