#include "data/hash.h"

#include <xxhash.h>

namespace cairn::data {

std::string content_hash(std::span<const uint8_t> bytes) {
  XXH128_canonical_t digest;
  XXH128_canonicalFromHash(&digest, XXH3_128bits(bytes.data(), bytes.size()));
  std::string hex;
  hex.reserve(2 * sizeof digest.digest);
  for (const unsigned char byte : digest.digest) {
    hex += "0123456789abcdef"[byte >> 4];
    hex += "0123456789abcdef"[byte & 15];
  }
  return hex;
}

}  // namespace cairn::data
