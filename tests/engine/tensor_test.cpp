#include "engine/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/allocator.h"

namespace cairn {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(Tensor, HoldsWhatWasPutIn) {
  const Tensor t = from_values<std::int32_t>({2, 2}, std::vector<std::int32_t>{1, 2, 3, 4});
  EXPECT_THAT(t.to_vector<std::int32_t>(), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(t.dtype(), DType::i32);
  EXPECT_THAT([&] { t.to_vector<float>(); }, ThrowsMessage<DTypeError>(HasSubstr("int32, not fp32")));
  EXPECT_THAT([&] { t.copy_from<std::int32_t>(std::vector<std::int32_t>{1}); },
              ThrowsMessage<ShapeError>(HasSubstr("[2,2]")));
}

TEST(Tensor, AliasSharesMemoryAndChecksItsBounds) {
  const Tensor t = zeros({6});
  const Tensor part = t.alias({2}, 3);
  part.copy_from<float>(std::vector<float>{7, 8});
  EXPECT_THAT(t.to_vector<float>(), ElementsAre(0, 0, 0, 7, 8, 0));
  EXPECT_THAT([&] { t.alias({4}, 3); }, ThrowsMessage<ShapeError>(HasSubstr("beyond the memory")));
}

TEST(Tensor, EmptyTensorIsLegal) {
  const Tensor t = zeros({0, 3});
  EXPECT_EQ(t.numel(), 0);
  EXPECT_TRUE(t.to_vector<float>().empty());
}

TEST(Tensor, Bfloat16RoundsToNearestEven) {
  EXPECT_EQ(BFloat16(1.0f).bits, 0x3F80);
  EXPECT_EQ(BFloat16(1.0f + 0x1p-8f).bits, 0x3F80) << "a tie goes to the even neighbour";
  EXPECT_EQ(BFloat16(1.0f + 3 * 0x1p-8f).bits, 0x3F82);
  EXPECT_EQ(BFloat16(std::numeric_limits<float>::infinity()).bits, 0x7F80);
  EXPECT_TRUE(std::isnan(static_cast<float>(BFloat16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_EQ(BFloat16(std::numeric_limits<float>::max()).bits, 0x7F80);
}

TEST(Tensor, Float16ConvertsEveryBitPatternBack) {
  for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
    Float16 h;
    h.bits = static_cast<std::uint16_t>(bits);
    const auto f = static_cast<float>(h);
    if (std::isnan(f)) continue;
    EXPECT_EQ(Float16(f).bits, h.bits) << bits;
  }
  EXPECT_EQ(static_cast<float>(Float16(65504.0f)), 65504.0f);
  EXPECT_TRUE(std::isinf(static_cast<float>(Float16(65520.0f))))
      << "half way to the next power rounds up to infinity";
  EXPECT_EQ(Float16(0x1p-25f).bits, 0) << "a tie with zero goes to zero";
  EXPECT_EQ(Float16(0x1.8p-25f).bits, 1);
}

TEST(Allocator, GivesFreedBlocksBack) {
  const Device cpu;
  if (memory_stats(cpu).reserved == 0) (void)zeros({1});
  { const Tensor warm = empty({1 << 16}); }
  const MemoryStats before = memory_stats(cpu);
  for (int i = 0; i < 10; ++i) const Tensor t = empty({1 << 16});
  const MemoryStats after = memory_stats(cpu);
  EXPECT_EQ(after.in_use, before.in_use);
#if !defined(__SANITIZE_ADDRESS__)
  EXPECT_EQ(after.device_allocations, before.device_allocations) << "a warmed-up loop allocates nothing";
#endif
  release_cached_memory(cpu);
  EXPECT_LE(memory_stats(cpu).reserved, before.reserved);
}

TEST(Allocator, OutOfMemoryIsAnErrorThatSaysWhatToDo) {
  EXPECT_THAT([] { empty({std::int64_t{1} << 46}); },
              ThrowsMessage<Error>(HasSubstr("out of memory on device 'cpu'")));
}

TEST(Device, NamesAreCheckedBeforeAnythingElse) {
  EXPECT_EQ(parse_device("cpu"), Device{});
  EXPECT_THAT([] { parse_device("gpu"); }, ThrowsMessage<InputError>(HasSubstr("unknown device 'gpu'")));
  EXPECT_THAT([] { parse_device("cuda:x"); }, ThrowsMessage<InputError>(HasSubstr("expected a number")));
  EXPECT_THAT([] { parse_device("cpu:1"); }, ThrowsMessage<InputError>(HasSubstr("is not there")));
}

}  // namespace
}  // namespace cairn
