#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/io/input_file.h"

namespace cairn::io {

/// A zip archive as PyTorch writes it: entries stored or deflated, one disk, under 4 GiB (no Zip64). Every
/// offset and length is checked against the file before use, and an entry's CRC after reading.
class ZipFile {
 public:
  /// Reads the directory. Throws InputError naming the file.
  explicit ZipFile(const std::string& path);

  struct Entry {
    std::uint16_t method = 0;  // 0 stored, 8 deflated
    std::uint32_t crc = 0;
    std::uint64_t packed = 0;
    std::uint64_t size = 0;
    std::uint64_t header = 0;  // offset of the local header
  };
  const std::map<std::string, Entry>& entries() const { return entries_; }
  std::vector<std::uint8_t> read(const std::string& name) const;
  const InputFile& file() const { return file_; }

 private:
  InputFile file_;
  std::map<std::string, Entry> entries_;
};

}  // namespace cairn::io
