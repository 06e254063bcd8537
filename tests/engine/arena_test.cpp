#include "engine/arena.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "engine/device.h"
#include "engine/tensor.h"

namespace cairn {
namespace {

constexpr std::size_t kUnit = Arena::kAlign;

TEST(Arena, TakesTheFirstGapThatIsLargeEnough) {
  Arena arena(10 * kUnit);
  const std::size_t a = arena.allocate(3 * kUnit), b = arena.allocate(1), c = arena.allocate(2 * kUnit);
  EXPECT_EQ(a, 0u);
  EXPECT_EQ(b, 3 * kUnit) << "sizes are rounded up to the alignment";
  EXPECT_EQ(c, 4 * kUnit);
  EXPECT_EQ(arena.size_at(b), kUnit);
  arena.release(a);
  EXPECT_EQ(arena.allocate(4 * kUnit), 6 * kUnit) << "does not fit into the gap of three";
  EXPECT_EQ(arena.allocate(2 * kUnit), 0u);
  EXPECT_EQ(arena.allocate(kUnit), 2 * kUnit);
  EXPECT_EQ(arena.allocate(1), Arena::kNone) << "all ten units are in use";
}

TEST(Arena, JoinsWhatIsFreedWithTheGapsBesideIt) {
  Arena arena(8 * kUnit);
  std::size_t blocks[4];
  for (std::size_t& block : blocks) block = arena.allocate(2 * kUnit);
  arena.release(blocks[0]);
  arena.release(blocks[2]);
  EXPECT_EQ(arena.gaps().size(), 2u);
  arena.release(blocks[1]);  // between the two
  ASSERT_EQ(arena.gaps().size(), 1u);
  EXPECT_EQ(arena.allocate(6 * kUnit), 0u);
  arena.release(0);
  arena.release(blocks[3]);
  EXPECT_EQ(arena.allocate(8 * kUnit), 0u);
}

TEST(Arena, RemembersHowFarItReached) {
  Arena arena(8 * kUnit);
  const std::size_t a = arena.allocate(kUnit), b = arena.allocate(5 * kUnit);
  arena.release(b);
  EXPECT_EQ(arena.reach(), 6 * kUnit);
  arena.lower_reach();
  EXPECT_EQ(arena.reach(), kUnit);
  arena.release(a);
  arena.lower_reach();
  EXPECT_EQ(arena.reach(), 0u);
}

TEST(Arena, RefusesSizesThatWrap) {
  Arena arena(8 * kUnit);
  EXPECT_EQ(arena.allocate(~std::size_t{0}), Arena::kNone);
  EXPECT_EQ(Arena(0).allocate(1), Arena::kNone);
}

TEST(Arena, NeverHandsOutMemoryTwice) {
  constexpr std::size_t kUnits = 500;
  Arena arena(kUnits * kUnit);
  std::mt19937 random(1);
  std::map<std::size_t, std::size_t> blocks;  // offset, size
  std::size_t used = 0;
  for (int i = 0; i < 20000; ++i) {
    if (blocks.empty() || random() % 2 == 0) {
      const std::size_t size = (1 + random() % 40) * kUnit;
      const std::size_t at = arena.allocate(size);
      if (at == Arena::kNone) continue;
      const auto next = blocks.lower_bound(at);
      ASSERT_TRUE(next == blocks.end() || at + size <= next->first);
      ASSERT_TRUE(next == blocks.begin() || std::prev(next)->first + std::prev(next)->second <= at);
      ASSERT_LE(at + size, kUnits * kUnit);
      blocks[at] = size;
      used += size;
    } else {
      auto block = blocks.begin();
      std::advance(block, random() % blocks.size());
      arena.release(block->first);
      used -= block->second;
      blocks.erase(block);
    }
    std::size_t gaps = 0;
    for (const auto& gap : arena.gaps()) gaps += gap.second;
    ASSERT_EQ(gaps + used, kUnits * kUnit);
  }
}

// Two large tensors, then one as long as both: a cache by size would hold all three.
TEST(Allocator, LargeBlocksServeOtherSizes) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "every block is the device's own";
#endif
  const Device cpu;
  constexpr std::int64_t kFloats = 8 << 20;
  release_cached_memory(cpu);
  {
    const Tensor a = empty({kFloats});
    const Tensor b = empty({kFloats});
  }
  const std::int64_t held = memory_stats(cpu).reserved;
  { const Tensor c = empty({2 * kFloats}); }
  EXPECT_EQ(memory_stats(cpu).reserved, held);
  release_cached_memory(cpu);
  EXPECT_LE(memory_stats(cpu).reserved, held - 2 * kFloats * 4);
}

}  // namespace
}  // namespace cairn
