#pragma once
#include <zlib.h>

#include <cstdint>
#include <fstream>
#include <iterator>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "data/image.h"

namespace cairn::data {

/// A file of tests/fixtures/decode, which make_decode_fixtures.py made.
inline std::vector<uint8_t> decode_fixture(const std::string& name) {
  std::ifstream file(std::string(CAIRN_SOURCE_DIR) + "/tests/fixtures/decode/" + name, std::ios::binary);
  if (!file) throw std::runtime_error("no fixture " + name);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// The lines of one of its tables.
inline std::vector<std::istringstream> decode_table(const std::string& name) {
  const std::vector<uint8_t> text = decode_fixture(name);
  std::istringstream all(std::string(text.begin(), text.end()));
  std::vector<std::istringstream> lines;
  for (std::string line; std::getline(all, line);) lines.emplace_back(line);
  return lines;
}

inline uint32_t adler(std::span<const uint8_t> bytes) {
  return static_cast<uint32_t>(
      adler32(adler32(0, nullptr, 0), bytes.data(), static_cast<uInt>(bytes.size())));
}

}  // namespace cairn::data
