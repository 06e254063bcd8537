#include "kernels/device.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/parallel.h"

// AddressSanitizer ends the program where malloc would return null, unless asked; unused without it.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }

namespace cairn::kernels {
namespace {

const DeviceApi& cpu() { return *device_api(DeviceType::cpu); }

TEST(CpuDevice, IsRegisteredAndDescribesItself) {
  ASSERT_NE(device_api(DeviceType::cpu), nullptr);
  std::string why;
  EXPECT_EQ(cpu().count(why), 1);
  EXPECT_EQ(why, "");
  const std::string text = cpu().describe(0);
  EXPECT_THAT(text, testing::HasSubstr(cpu_info().model));
  EXPECT_THAT(text, testing::HasSubstr(describe_isa(cpu_info())));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("\n")));
}

TEST(CpuDevice, MemoryIsAlignedWritableAndTheCallersOwn) {
  for (std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{255}, std::size_t{257}, std::size_t{1} << 20,
        (std::size_t{4} << 20) - 1, std::size_t{4} << 20, (std::size_t{9} << 20) + 13}) {
    void* memory = nullptr;
    ASSERT_TRUE(cpu().allocate(0, bytes, &memory).ok());
    ASSERT_NE(memory, nullptr);
    const auto address = reinterpret_cast<std::uintptr_t>(memory);
    EXPECT_EQ(address % (bytes >= (std::size_t{4} << 20) ? std::size_t{2} << 20 : 256), 0u) << bytes;
    std::memset(memory, 0x5A, bytes);
    EXPECT_TRUE(cpu().release(0, memory).ok());
    ASSERT_TRUE(cpu().allocate_host(bytes, &memory).ok());
    std::memset(memory, 0x5A, bytes);
    EXPECT_TRUE(cpu().release_host(memory).ok());
  }
}

TEST(CpuDevice, ImpossibleSizesAreOutOfMemory) {
  for (std::size_t bytes : {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX - 100}) {
    void* memory = nullptr;
    const Status status = cpu().allocate(0, bytes, &memory);
    EXPECT_EQ(status.code(), Status::Code::out_of_memory);
    EXPECT_THAT(status.message(), testing::HasSubstr(std::to_string(bytes)));
  }
}

TEST(CpuDevice, CopiesAndClears) {
  Queue queue;
  ASSERT_TRUE(cpu().create_queue(0, queue).ok());
  for (std::size_t n : {0u, 1u, 63u, 64u, 65u, 300001u}) {
    std::vector<unsigned char> from(n), to(n + 1, 9);
    for (std::size_t i = 0; i < n; ++i) from[i] = static_cast<unsigned char>(i * 31);
    ASSERT_TRUE(cpu().copy(queue, to.data(), from.data(), n, CopyKind::device_to_device).ok());
    EXPECT_TRUE(std::equal(from.begin(), from.end(), to.begin()));
    EXPECT_EQ(to[n], 9);
    ASSERT_TRUE(cpu().fill_zero(queue, to.data(), n).ok());
    for (std::size_t i = 0; i < n; ++i) ASSERT_EQ(to[i], 0);
    EXPECT_EQ(to[n], 9);
  }
  EXPECT_TRUE(cpu().synchronize(queue).ok());
  EXPECT_TRUE(cpu().destroy_queue(queue).ok());
}

TEST(CpuDevice, EventsAreAlwaysReached) {
  const Queue queue;
  void* event = nullptr;
  EXPECT_TRUE(cpu().create_event(0, event).ok());
  EXPECT_TRUE(cpu().record_event(queue, event).ok());
  EXPECT_TRUE(cpu().queue_wait_event(queue, event).ok());
  EXPECT_TRUE(cpu().host_wait_event(event).ok());
  EXPECT_TRUE(cpu().destroy_event(event).ok());
}

TEST(Parallel, PartsCoverTheRangeOnceAndDependOnSizesAlone) {
  const int threads = num_threads();
  for (int count : {1, 2, 3, 8}) {
    set_num_threads(count);
    EXPECT_EQ(num_threads(), count);
    for (std::int64_t n : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<std::size_t>(n));
      std::atomic<int> parts{0};
      const auto visit = [&](std::int64_t begin, std::int64_t end, int part) {
        parts |= 1 << part;
        for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
      };
      parallel_for(n, 3, visit);
      for (auto& s : seen) EXPECT_EQ(s.load(), 1);
      EXPECT_EQ(parts.load(), (1 << parallel_parts(n, 3)) - 1);
      EXPECT_LE(parallel_parts(n, 3), count);
      // Inside a parallel region: the same parts, on one thread.
      parallel_for(2, 1, [&](std::int64_t begin, std::int64_t, int) {
        if (begin == 0) parallel_for(n, 3, visit);
      });
      for (auto& s : seen) EXPECT_EQ(s.load(), 2);
    }
  }
  set_num_threads(threads);
}

}  // namespace
}  // namespace cairn::kernels
