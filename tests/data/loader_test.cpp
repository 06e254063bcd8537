#include "data/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <numeric>
#include <set>
#include <thread>

#include "kernels/error.h"
#include "kernels/philox.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Copy {  // of a batch, with its pixels
  std::vector<uint8_t> pixels;
  std::vector<int32_t> labels, labels2;
  std::vector<float> lambda;
  std::vector<int64_t> indices, positions;
  bool operator==(const Copy&) const = default;
};

class LoaderTest : public testing::Test {
 protected:
  static constexpr int kSize = 12;

  LoaderTest() {
    for (int i = 0; i < 13; ++i) folder_.write("set/a/" + name(i), make_ppm(20 + i, 31 - i, 100 + i));
    for (int i = 0; i < 6; ++i) folder_.write("set/b/" + name(i), make_ppm(16, 16, 200 + i));
    dataset_ = open_dataset(folder_.path("set"));
  }

  static std::string name(int i) { return std::to_string(10 + i) + ".ppm"; }

  LoaderOptions options() const {
    LoaderOptions o;
    o.items.resize(dataset_.items.size());
    std::iota(o.items.begin(), o.items.end(), 0);
    o.sampler = {.seed = 11, .batch_size = 4};
    o.image_size = kSize;
    o.workers = 2;
    return o;
  }

  static Copy copy(const Batch& batch) {
    return {{batch.images, batch.images + batch.size * kSize * kSize * 3},
            batch.labels,
            batch.labels2,
            batch.lambda,
            batch.indices,
            batch.positions};
  }

  std::vector<Copy> epoch(Loader& loader, int64_t number, int64_t first_batch = 0) const {
    loader.start_epoch(number, first_batch);
    std::vector<Copy> batches;
    for (Batch batch; loader.next(batch);) batches.push_back(copy(batch));
    return batches;
  }

  std::vector<uint8_t> decoded(int64_t item) const {
    std::vector<uint8_t> pixels(kSize * kSize * 3);
    const Image image = decode_image(dataset_.read_bytes(dataset_.items[item]), DecodeOptions(), "x");
    resize_image(image, ResizeMode::stretch, kSize, pixels.data());
    return pixels;
  }

  TempFolder folder_;
  Dataset dataset_;
};

TEST_F(LoaderTest, DeliversTheSamplersImagesInOrder) {
  LoaderOptions o = options();
  o.sampler.shuffle = false;
  Loader loader(dataset_, o);
  EXPECT_EQ(loader.batches_per_epoch(), 5);
  for (int pass = 0; pass < 2; ++pass) {  // the second from the cache
    const auto batches = epoch(loader, pass);
    ASSERT_EQ(batches.size(), 5u);
    int64_t next = 0;
    for (const Copy& batch : batches) {
      for (size_t i = 0; i < batch.labels.size(); ++i, ++next) {
        EXPECT_EQ(batch.indices[i], next);
        EXPECT_EQ(batch.positions[i], next);
        EXPECT_EQ(batch.labels[i], next < 13 ? 0 : 1);
        const auto expected = decoded(next);
        EXPECT_EQ(std::memcmp(batch.pixels.data() + i * expected.size(), expected.data(), expected.size()),
                  0);
      }
      EXPECT_THAT(batch.labels2, IsEmpty());
    }
    EXPECT_EQ(next, 19);
  }
  EXPECT_EQ(loader.images_delivered(), 38);
  EXPECT_EQ(loader.cache_capacity(), 19);
}

TEST_F(LoaderTest, SameBitsWhateverTheWorkersCacheAndPrefetch) {
  for (const Augment augment : {Augment::none, Augment::light, Augment::standard}) {
    for (const Balance balance : {Balance::none, Balance::oversample}) {
      std::vector<std::vector<Copy>> expected;
      for (const int workers : {1, 2, 7}) {
        for (const int64_t cache : {int64_t{0}, int64_t{5000}, int64_t{-1}}) {
          LoaderOptions o = options();
          o.augment = augment;
          o.sampler.balance = balance;
          o.workers = workers;
          o.cache_bytes = cache;
          o.prefetch = workers == 2 ? 1 : 3;
          Loader loader(dataset_, o);
          std::vector<std::vector<Copy>> epochs;
          for (int e = 0; e < 2; ++e) epochs.push_back(epoch(loader, e));
          if (expected.empty()) expected = epochs;
          EXPECT_EQ(epochs, expected) << workers << " workers, cache " << cache;
        }
      }
      EXPECT_NE(expected[0], expected[1]);
      EXPECT_EQ(expected[0].size(), balance == Balance::none ? 4u : 6u);
    }
  }
}

TEST_F(LoaderTest, ACacheFileGivesTheSameBitsAndNoticesChangedFiles) {
  LoaderOptions plain = options();
  plain.augment = Augment::standard;
  plain.cache_bytes = 0;
  LoaderOptions cached = plain;
  cached.cache_file = folder_.path("cache");
  const auto two_epochs = [&](const LoaderOptions& o) {
    Loader loader(dataset_, o);
    return std::pair(epoch(loader, 0), epoch(loader, 1));
  };
  const auto before = two_epochs(plain);
  for (const int workers : {1, 2, 7}) {
    cached.workers = workers;
    EXPECT_EQ(two_epochs(cached), before) << workers;
  }
  folder_.write("set/a/" + name(3), make_ppm(20, 20, 999));
  const auto after = two_epochs(plain);
  EXPECT_NE(after, before);
  EXPECT_EQ(two_epochs(cached), after);
  cached.decode.mode = plain.decode.mode = DecodeMode::fast;
  EXPECT_EQ(two_epochs(cached), two_epochs(plain));
}

TEST_F(LoaderTest, BeginsInTheMiddle) {
  LoaderOptions o = options();
  o.augment = Augment::standard;
  Loader loader(dataset_, o);
  const auto whole = epoch(loader, 3);
  Loader resumed(dataset_, o);
  const auto rest = epoch(resumed, 3, 2);
  EXPECT_EQ(rest, std::vector(whole.begin() + 2, whole.end()));
  EXPECT_THAT(epoch(resumed, 3, 4), IsEmpty());
  EXPECT_THROW(resumed.start_epoch(0, 5), Error);
}

TEST_F(LoaderTest, ProcessesSeeTheirSlices) {
  LoaderOptions o = options();
  o.augment = Augment::standard;
  Loader whole(dataset_, o);
  const auto expected = epoch(whole, 1);
  std::vector<std::vector<Copy>> slices;
  for (int rank = 0; rank < 2; ++rank) {
    o.sampler.rank = rank;
    o.sampler.world = 2;
    Loader loader(dataset_, o);
    slices.push_back(epoch(loader, 1));
  }
  for (size_t b = 0; b < expected.size(); ++b) {
    std::vector<uint8_t> pixels = slices[0][b].pixels;
    pixels.insert(pixels.end(), slices[1][b].pixels.begin(), slices[1][b].pixels.end());
    EXPECT_EQ(pixels, expected[b].pixels);
    std::vector<float> lambda = slices[0][b].lambda;
    lambda.insert(lambda.end(), slices[1][b].lambda.begin(), slices[1][b].lambda.end());
    EXPECT_EQ(lambda, expected[b].lambda);
  }
}

TEST_F(LoaderTest, AnEmptySliceOfTheLastBatchIsDelivered) {
  LoaderOptions o = options();
  o.sampler = {.batch_size = 8, .shuffle = false, .rank = 1, .world = 2};
  Loader loader(dataset_, o);
  const auto batches = epoch(loader, 0);
  ASSERT_EQ(batches.size(), 3u);
  EXPECT_THAT(batches[2].labels, IsEmpty());
}

TEST_F(LoaderTest, MixedPairsNameBothLabels) {
  LoaderOptions o = options();
  o.augment = Augment::standard;
  Loader loader(dataset_, o);
  int mixed = 0;
  for (int e = 0; e < 10; ++e) {
    for (const Copy& batch : epoch(loader, e)) {
      for (size_t i = 0; i < batch.labels.size(); i += 2) {
        EXPECT_EQ(batch.labels2[i], batch.labels[i + 1]);
        EXPECT_EQ(batch.labels2[i + 1], batch.labels[i]);
        EXPECT_EQ(batch.lambda[i], batch.lambda[i + 1]);
        mixed += batch.lambda[i] < 1;
      }
    }
  }
  EXPECT_GT(mixed, 15);  // of 80 pairs about half
}

TEST_F(LoaderTest, HeldBatchesKeepTheirPixels) {
  LoaderOptions o = options();
  o.prefetch = 3;
  Loader loader(dataset_, o);
  const auto expected = epoch(loader, 0);
  loader.start_epoch(0);
  Batch first, second, third, fourth;
  ASSERT_TRUE(loader.next(first));
  ASSERT_TRUE(loader.next(second));
  ASSERT_TRUE(loader.next(third));
  EXPECT_THAT(message_of([&] { loader.next(fourth); }), HasSubstr("every batch buffer is held"));
  EXPECT_EQ(copy(first), expected[0]);
  EXPECT_EQ(copy(second), expected[1]);
  first = Batch();
  ASSERT_TRUE(loader.next(fourth));
  EXPECT_EQ(copy(fourth), expected[3]);
  EXPECT_EQ(copy(third), expected[2]);
}

TEST_F(LoaderTest, ABatchOutlivesItsLoader) {
  Batch batch;
  Copy before;
  {
    Loader loader(dataset_, options());
    loader.start_epoch(0);
    ASSERT_TRUE(loader.next(batch));
    before = copy(batch);
  }
  EXPECT_EQ(copy(batch), before);
}

TEST_F(LoaderTest, TakesMemoryFromTheCaller) {
  LoaderOptions o = options();
  o.prefetch = 2;
  std::vector<uint8_t*> given;
  o.allocate = [&](size_t bytes) {
    EXPECT_EQ(bytes, 4u * kSize * kSize * 3);
    auto memory = std::make_shared<uint8_t[]>(bytes);
    given.push_back(memory.get());
    return memory;
  };
  Loader loader(dataset_, o);
  EXPECT_EQ(given.size(), 2u);
  loader.start_epoch(0);
  for (Batch batch; loader.next(batch);) EXPECT_THAT(given, testing::Contains(batch.images));
  o.allocate = [](size_t) { return nullptr; };
  EXPECT_THROW(Loader(dataset_, o), Error);
}

// What the caller says it has is not even read.
TEST_F(LoaderTest, LeavesPixelsOut) {
  LoaderOptions o = options();
  o.without_pixels = [](int64_t item) { return item == 3; };
  std::filesystem::remove(folder_.path("set/a/" + name(3)));
  Loader loader(dataset_, o);
  loader.start_epoch(0);
  std::set<int64_t> seen;
  for (Batch batch; loader.next(batch);) seen.insert(batch.indices.begin(), batch.indices.end());
  EXPECT_EQ(seen.size(), 16u);
  EXPECT_THAT(seen, testing::Contains(3));
  o.augment = Augment::light;
  EXPECT_THAT(message_of([&] { Loader(dataset_, o); }), HasSubstr("not augmented"));
}

// A file that is gone stops the run at its batch, with its name, after all batches before it: for any
// workers.
TEST_F(LoaderTest, AVanishedFileIsNamedAtItsPlace) {
  std::filesystem::remove(folder_.path("set/a/" + name(9)));
  std::filesystem::remove(folder_.path("set/a/" + name(11)));
  for (const int workers : {1, 2, 7}) {
    LoaderOptions o = options();
    o.sampler.shuffle = false;
    o.workers = workers;
    Loader loader(dataset_, o);
    for (int pass = 0; pass < 2; ++pass) {
      loader.start_epoch(pass);
      Batch batch;
      ASSERT_TRUE(loader.next(batch));
      ASSERT_TRUE(loader.next(batch));
      for (int again = 0; again < 2; ++again) {
        EXPECT_THAT(message_of([&] { loader.next(batch); }), HasSubstr("set/a/" + name(9)));
      }
    }
  }
}

TEST_F(LoaderTest, StopsAtAnyMoment) {
  for (int i = 0; i < 60; ++i) {
    LoaderOptions o = options();
    o.workers = 1 + i % 5;
    o.cache_bytes = i % 2 ? 0 : -1;
    o.prefetch = 1 + i % 3;
    Loader loader(dataset_, o);
    if (i % 4 == 0) continue;  // never started
    loader.start_epoch(0);
    Batch batch;
    for (int n = 0; n < i % 4; ++n) loader.next(batch);
    if (i % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50 * i));
    if (i % 7 == 0) {
      batch = Batch();
      EXPECT_EQ(epoch(loader, 1).size(), 4u);  // begun anew with work under way
    }
  }
}

TEST_F(LoaderTest, SenselessOptionsAreRefused) {
  LoaderOptions o = options();
  o.image_size = 0;
  EXPECT_THROW(Loader(dataset_, o), InputError);
  o = options();
  o.prefetch = 0;
  EXPECT_THROW(Loader(dataset_, o), InputError);
  o = options();
  o.items = {99};
  EXPECT_THROW(Loader(dataset_, o), Error);
  o.items = {};
  EXPECT_THAT(message_of([&] { Loader(dataset_, o); }), HasSubstr("holds no images"));
}

}  // namespace
}  // namespace cairn::data
