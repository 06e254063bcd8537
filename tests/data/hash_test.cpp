#include "data/hash.h"

#include <gtest/gtest.h>

namespace cairn::data {
namespace {

TEST(ContentHash, IsXxh3Of128Bits) {
  // xxhsum -H2 of an empty file and of "abc" (xxHash 0.8).
  EXPECT_EQ(content_hash({}), "99aa06d3014798d86001c324468d497f");
  const uint8_t abc[] = {'a', 'b', 'c'};
  EXPECT_EQ(content_hash(abc), "06b05ab6733a618578af5f94892f3950");
}

}  // namespace
}  // namespace cairn::data
