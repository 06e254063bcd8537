#include "data/cache_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>
#include <vector>

#include "kernels/error.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using testing::HasSubstr;

constexpr size_t kBytes = 10'000;

std::string hash_of(int i) {
  const std::string number = std::to_string(i);
  return std::string(32 - number.size(), '0') + number;
}

class CacheFileTest : public testing::Test {
 protected:
  std::string path() const { return folder_.path("cache"); }
  // Gets an image of one value; whether it had to be made.
  static bool get(CacheFile& file, int i) {
    bool made = false;
    const uint8_t* pixels = file.get(hash_of(i), [&](uint8_t* dst) {
      made = true;
      std::memset(dst, i, kBytes);
    });
    EXPECT_EQ(std::vector<uint8_t>(pixels, pixels + kBytes),
              std::vector<uint8_t>(kBytes, static_cast<uint8_t>(i)));
    return made;
  }
  TempFolder folder_;
};

TEST_F(CacheFileTest, KeepsImagesForTheNextRun) {
  {
    CacheFile file(path(), "key", 200, kBytes);
    for (int i = 0; i < 200; ++i) EXPECT_TRUE(get(file, i));
    for (int i = 0; i < 200; ++i) EXPECT_FALSE(get(file, i));
  }
  CacheFile file(path(), "key", 250, kBytes);
  for (int i = 249; i >= 0; --i) EXPECT_EQ(get(file, i), i >= 200);
  EXPECT_EQ(file.found(), 200);
  EXPECT_EQ(file.made(), 50);
}

TEST_F(CacheFileTest, AnotherKeyOrSizeBeginsAnew) {
  {
    CacheFile file(path(), "decoder 1", 3, kBytes);
    EXPECT_TRUE(get(file, 1));
  }
  {
    CacheFile file(path(), "decoder 2", 3, kBytes);
    EXPECT_TRUE(get(file, 1));
  }
  {
    CacheFile file(path(), "decoder 2", 3, kBytes);
    EXPECT_FALSE(get(file, 1));
  }
  CacheFile file(path(), "decoder 2", 3, kBytes + 1);
  EXPECT_EQ(file.get(hash_of(1), [](uint8_t* dst) { std::memset(dst, 7, kBytes + 1); })[kBytes], 7);
}

// Every byte of the file that is changed costs at most the image that it belongs to, and none comes out
// wrong.
TEST_F(CacheFileTest, DamageIsNoticed) {
  {
    CacheFile file(path(), "key", 2, kBytes);
    get(file, 1);
    get(file, 2);
  }
  std::string content;
  {
    std::ifstream stream(path(), std::ios::binary);
    content.assign(std::istreambuf_iterator<char>(stream), {});
  }
  const size_t stride = 12'288;  // 64 + 10,000 bytes in whole pages
  for (const size_t at : {size_t{4096}, size_t{4096 + 32}, size_t{4096 + 40}, size_t{4096 + 64},
                          size_t{4096 + 9000}, 4096 + stride + 5, 4096 + stride + 64 + kBytes - 1}) {
    std::string damaged = content;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    folder_.write("cache", damaged);
    CacheFile file(path(), "key", 2, kBytes);
    const int made = int{get(file, 1)} + int{get(file, 2)};
    EXPECT_GE(made, 1) << at;
  }
  for (const size_t length : {size_t{5000}, 4096 + stride, 4096 + stride + 70}) {
    folder_.write("cache", content.substr(0, length));
    CacheFile file(path(), "key", 2, kBytes);
    get(file, 2);
    get(file, 1);
  }
}

TEST_F(CacheFileTest, AFailedImageIsTriedAgain) {
  {
    CacheFile file(path(), "key", 2, kBytes);
    EXPECT_THROW(file.get(hash_of(1), [](uint8_t*) { throw InputError("broken"); }), InputError);
    EXPECT_THROW(file.get(hash_of(2), [](uint8_t*) { throw InputError("broken"); }), InputError);
    EXPECT_TRUE(get(file, 1));
  }
  CacheFile file(path(), "key", 2, kBytes);
  EXPECT_FALSE(get(file, 1));
  EXPECT_TRUE(get(file, 2));
}

TEST_F(CacheFileTest, ThreadsMakeEachImageOnce) {
  CacheFile file(path(), "key", 100, kBytes);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 7; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 100; ++i) get(file, (i * 13 + t) % 100);
    });
  }
  threads.clear();
  EXPECT_EQ(file.made(), 100);
}

TEST_F(CacheFileTest, OtherFilesAreLeftAlone) {
  folder_.write("cache", "my thesis");
  EXPECT_THAT(message_of([&] { CacheFile(path(), "key", 1, kBytes); }), HasSubstr("choose another name"));
  std::ifstream stream(path());
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(stream), {}), "my thesis");
  EXPECT_THAT(message_of([&] { CacheFile(folder_.path("no/such"), "key", 1, kBytes); }),
              HasSubstr("cannot be opened"));
  const CacheFile first(folder_.path("other"), "key", 1, kBytes);
  EXPECT_THAT(message_of([&] { CacheFile(folder_.path("other"), "key", 1, kBytes); }),
              HasSubstr("another run"));
}

}  // namespace
}  // namespace cairn::data
