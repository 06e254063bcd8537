// Many images over a set with damaged files: memory stays flat and each damaged file is named once. 4,000
// images; with CAIRN_SOAK=1 (scripts/test --all) 200,000.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <set>

#include "data/dataset/scan.h"
#include "data/encode.h"
#include "data/loader.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr int64_t kAllowedGrowth = int64_t{1} << 40;  // their quarantines grow by design
#else
constexpr int64_t kAllowedGrowth = 16 << 20;  // allocators settle; a leak of 1 KB an image would be 200 MB
#endif

int64_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  file >> pages >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

std::string make_jpeg(int width, int height, uint64_t seed) {
  Image image{width, height, {}};
  for (int i = 0; i < width * height * 3; ++i)
    image.rgb.push_back(
        static_cast<uint8_t>((i / 3 % width * 3 + i / 3 / width * 2 + i % 3 * 40 + seed * 29) & 0xFF));
  const std::vector<uint8_t> bytes = encode_jpeg(image, 85);
  return {bytes.begin(), bytes.end()};
}

TEST(Soak, MemoryIsFlatAndDamagedFilesAreNamedOnce) {
  const bool whole = std::getenv("CAIRN_SOAK") != nullptr;
  const int64_t wanted = whole ? 200'000 : 4'000;
  const TempFolder folder;
  constexpr int kFiles = 1000;
  std::set<std::string> damaged;
  for (int i = 0; i < kFiles; ++i) {
    const std::string name = "c" + std::to_string(i % 2) + "/" + std::to_string(1000 + i);
    const bool photo = i % 4 != 0;
    std::string content =
        photo ? make_jpeg(100 + i % 61, 150 - i % 47, i) : make_ppm(40 + i % 30, 60 - i % 20, i);
    const std::string path = name + (photo ? ".jpg" : ".ppm");
    if (i % 100 == 37) {  // 1 %: cut, text, nothing, or zeros
      damaged.insert(path);
      const int kind = i / 100 % 4;
      content = kind == 0   ? content.substr(0, content.size() / 2)
                : kind == 1 ? "no image\n"
                : kind == 2 ? ""
                            : std::string(500, '\0');
    }
    folder.write("set/" + path, content);
  }
  Dataset dataset = open_dataset(folder.path("set"));
  const Scan scan = scan_dataset(dataset, {});
  std::multiset<std::string> named;
  for (const DamagedFile& file : scan.damaged) named.insert(file.path);
  EXPECT_EQ(named, std::multiset<std::string>(damaged.begin(), damaged.end()));
  for (const std::string& path : damaged) {
    EXPECT_EQ(std::count_if(scan.warnings.begin(), scan.warnings.end(),
                            [&](const std::string& line) { return line.find(path) != std::string::npos; }),
              1)
        << path;
  }
  ASSERT_EQ(dataset.items.size(), kFiles - damaged.size());

  LoaderOptions options;
  for (size_t i = 0; i < dataset.items.size(); ++i) options.items.push_back(static_cast<int64_t>(i));
  options.sampler = {.seed = 3, .batch_size = 32};
  options.decode.mode = DecodeMode::fast;
  options.image_size = 96;
  options.augment = Augment::standard;
  options.cache_bytes = 0;
  Loader loader(dataset, options);
  int64_t after_warm_up = 0;
  for (int64_t epoch = 0; loader.images_delivered() < wanted; ++epoch) {
    loader.start_epoch(epoch);
    for (Batch batch; loader.next(batch);) {
      for (const int64_t item : batch.indices) ASSERT_FALSE(damaged.contains(dataset.items[item].path));
    }
    if (epoch == 1) after_warm_up = resident_bytes();
  }
  const int64_t growth = resident_bytes() - after_warm_up;
  std::printf("%lld images, memory %+lld KB from the second epoch on, %lld KB in all\n",
              static_cast<long long>(loader.images_delivered()), static_cast<long long>(growth >> 10),
              static_cast<long long>(resident_bytes() >> 10));
  EXPECT_LE(growth, kAllowedGrowth);
}

}  // namespace
}  // namespace cairn::data
