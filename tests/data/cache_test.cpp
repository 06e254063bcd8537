#include "data/cache.h"

#include <gtest/gtest.h>

#include <cstring>

namespace cairn::data {
namespace {

TEST(ImageCache, KeepsWhatTheBudgetAllows) {
  EXPECT_EQ(ImageCache(10, 100, 350).capacity(), 3);
  EXPECT_EQ(ImageCache(10, 100, 1 << 20).capacity(), 10);
  ImageCache none(10, 100, 99);
  EXPECT_EQ(none.capacity(), 0);
  EXPECT_EQ(none.find(0), nullptr);
  EXPECT_EQ(none.begin_fill(0), nullptr);
}

TEST(ImageCache, IsFilledOnce) {
  ImageCache cache(4, 3, 12);
  EXPECT_EQ(cache.find(2), nullptr);
  uint8_t* place = cache.begin_fill(2);
  ASSERT_NE(place, nullptr);
  EXPECT_EQ(cache.begin_fill(2), nullptr);
  EXPECT_EQ(cache.find(2), nullptr);
  std::memcpy(place, "abc", 3);
  cache.filled(2);
  ASSERT_EQ(cache.find(2), place);
  EXPECT_EQ(cache.begin_fill(2), nullptr);
  EXPECT_EQ(cache.find(1), nullptr);
}

TEST(ImageCache, AbandonedSlotsCanBeFilledAgain) {
  ImageCache cache(1, 3, 3);
  ASSERT_NE(cache.begin_fill(0), nullptr);
  cache.abandoned(0);
  EXPECT_NE(cache.begin_fill(0), nullptr);
}

TEST(ImageCache, DefaultBudgetIsSomeMemoryButNotAll) {
  EXPECT_GT(default_cache_bytes(), 0);
  EXPECT_LT(default_cache_bytes(), int64_t{1} << 48);
}

}  // namespace
}  // namespace cairn::data
