#include "data/duplicates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "data/hash.h"
#include "data/split.h"
#include "tests/data/altered_copies.h"

namespace cairn::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int kImages = 60;

// A made-up photograph: a sky that shades off, grain, and 4 to 12 round or square things of any colour.
Image scene(uint64_t seed) {
  uint64_t place = 100;
  const auto draw = [&](float low, float high) { return drawn(seed, place++, low, high); };
  const int width = static_cast<int>(draw(200, 420)), height = static_cast<int>(draw(200, 420));
  Image image{width, height, {}};
  image.rgb.resize(size_t{3} * width * height);
  const float top[3] = {draw(60, 240), draw(60, 240), draw(60, 240)};
  const float slope[3] = {draw(-0.3f, 0.3f), draw(-0.3f, 0.3f), draw(-0.3f, 0.3f)};
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const float grain = drawn(seed, 1000 + uint64_t{1} * y * width + x, -6, 6);
      for (int c = 0; c < 3; ++c)
        image.rgb[3 * (y * width + x) + c] =
            static_cast<uint8_t>(std::clamp(top[c] + slope[c] * static_cast<float>(y) + grain, 0.0f, 255.0f));
    }
  }
  const int things = static_cast<int>(draw(4, 12));
  for (int t = 0; t < things; ++t) {
    const auto w = static_cast<float>(width), h = static_cast<float>(height);
    const float cx = draw(0, w), cy = draw(0, h), rx = draw(0.06f, 0.3f) * w, ry = draw(0.06f, 0.3f) * h;
    const bool round = draw(0, 1) < 0.5f;
    const uint8_t colour[3] = {static_cast<uint8_t>(draw(0, 255)), static_cast<uint8_t>(draw(0, 255)),
                               static_cast<uint8_t>(draw(0, 255))};
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        const float u = (static_cast<float>(x) - cx) / rx, v = (static_cast<float>(y) - cy) / ry;
        if (round ? u * u + v * v < 1 : std::abs(u) < 1 && std::abs(v) < 1)
          std::copy(colour, colour + 3, image.rgb.begin() + 3 * (y * width + x));
      }
    }
  }
  return image;
}

struct Families {
  std::vector<Look> looks;  // [kImages, 1 + alterations], the original first
  int64_t members = 0;
};

const Families& families() {
  static const Families all = [] {
    Families f;
    const std::vector<Alteration> ways = alterations();
    f.members = static_cast<int64_t>(ways.size()) + 1;
    for (uint64_t seed = 0; seed < kImages; ++seed) {
      const Image image = scene(seed);
      f.looks.push_back(make_look(image));
      for (const Alteration& way : ways) f.looks.push_back(make_look(way.make(image, seed)));
    }
    return f;
  }();
  return all;
}

TEST(Duplicates, FindsAlteredCopiesOfMadeUpPhotographs) {
  const Families& f = families();
  const std::vector<Alteration> ways = alterations();
  for (size_t w = 0; w < ways.size(); ++w) {
    int found = 0;
    for (int64_t i = 0; i < kImages; ++i)
      found += looks_alike(f.looks[i * f.members], f.looks[i * f.members + static_cast<int64_t>(w) + 1]);
    std::printf("recall %d of %d: %s\n", found, kImages, ways[w].name.c_str());
    EXPECT_GE(found, kImages * 95 / 100) << ways[w].name;
  }
}

TEST(Duplicates, TellsDifferentPicturesApart) {
  const Families& f = families();
  int64_t alarms = 0, pairs = 0;
  for (size_t i = 0; i < f.looks.size(); ++i) {
    for (size_t j = i + 1; j < f.looks.size(); ++j) {
      if (static_cast<int64_t>(i) / f.members == static_cast<int64_t>(j) / f.members) continue;
      ++pairs;
      alarms += looks_alike(f.looks[i], f.looks[j]);
    }
  }
  std::printf("false alarms: %lld of %lld pairs\n", static_cast<long long>(alarms),
              static_cast<long long>(pairs));
  EXPECT_LE(alarms, pairs / 1000);
}

TEST(Duplicates, IsSymmetricAndFindsItself) {
  const Families& f = families();
  for (size_t i = 0; i + 1 < f.looks.size(); ++i) {
    EXPECT_TRUE(looks_alike(f.looks[i], f.looks[i]));
    EXPECT_EQ(looks_alike(f.looks[i], f.looks[i + 1]), looks_alike(f.looks[i + 1], f.looks[i]));
  }
}

TEST(Duplicates, OneColourLooksLikeNothing) {
  Image white{40, 30, std::vector<uint8_t>(40 * 30 * 3, 255)};
  const Look look = make_look(white);
  EXPECT_TRUE(look.flat);
  EXPECT_FALSE(looks_alike(look, look));
  EXPECT_THAT(find_look_alikes(std::vector<Look>{look, look}), IsEmpty());
}

TEST(Duplicates, AnySizeHasALook) {
  for (const auto& [width, height] : {std::pair{1, 1}, {1, 300}, {5000, 1}, {3, 2}}) {
    Image image{width, height, std::vector<uint8_t>(size_t{3} * width * height)};
    for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<uint8_t>(i * 37);
    const Look look = make_look(image);
    EXPECT_EQ(looks_alike(look, look), !look.flat);
  }
}

// Groups are the families, whatever the number of threads; the split keeps each on one side.
TEST(Duplicates, SplitKeepsFamiliesOnOneSide) {
  const Families& f = families();
  const auto groups = find_look_alikes(f.looks, 1);
  for (const int workers : {2, 7}) EXPECT_EQ(find_look_alikes(f.looks, workers), groups);
  std::vector<int64_t> family_of(f.looks.size(), -1);
  int64_t kept = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    std::set<int64_t> families_in_group;
    for (const int64_t i : groups[g]) {
      family_of[i] = static_cast<int64_t>(g);
      families_in_group.insert(i / f.members);
      ++kept;
    }
    EXPECT_EQ(families_in_group.size(), 1u);
  }
  EXPECT_GE(kept, static_cast<int64_t>(f.looks.size()) * 95 / 100);

  Dataset dataset;
  dataset.classes = {"a", "b"};
  std::vector<std::string> hashes;
  for (size_t i = 0; i < f.looks.size(); ++i) {
    Item item;
    item.path = "image" + std::to_string(100000 + i);
    item.label = static_cast<int32_t>(i / f.members % 2);
    dataset.items.push_back(item);
    hashes.push_back(content_hash(f.looks[i].luma) + std::to_string(i));
  }
  const Split split = split_dataset(dataset, hashes, {.near_duplicates = joining_pairs(groups)});
  EXPECT_THAT(find_leaks(split.manifest), IsEmpty());
  EXPECT_GT(split.manifest.count(Part::test), 0);
  std::vector<std::set<Part>> parts(groups.size());
  for (size_t i = 0; i < f.looks.size(); ++i) {
    if (family_of[i] >= 0) parts[family_of[i]].insert(split.manifest.rows[i].part);
  }
  for (const std::set<Part>& p : parts) EXPECT_EQ(p.size(), 1u);
}

// The protocol of the original classifier: what it leaks is found as soon as its manifest is not marked.
TEST(Duplicates, OversampleFirstIsCaughtAsALeak) {
  Dataset dataset;
  dataset.classes = {"few", "many"};
  std::vector<std::string> hashes;
  for (int i = 0; i < 60; ++i) {
    Item item;
    item.path = "image" + std::to_string(100 + i);
    item.label = i < 10 ? 0 : 1;
    dataset.items.push_back(item);
    hashes.push_back("hash" + std::to_string(i));
  }
  Split split = split_dataset(dataset, hashes, {.protocol = Protocol::oversample_first});
  EXPECT_THAT(split.warnings, ElementsAre(HasSubstr("several parts")));
  const std::vector<std::string> leaks = find_leaks(split.manifest, 1000);
  std::set<std::string> leaked;
  for (const ManifestRow& a : split.manifest.rows) {
    for (const ManifestRow& b : split.manifest.rows) {
      if (a.path == b.path && a.part != b.part) leaked.insert(a.path);
    }
  }
  EXPECT_GE(leaked.size(), 4u);  // of ten images in five copies on average
  EXPECT_GE(leaks.size(), leaked.size());
  split.manifest.protocol = Protocol::split_first;
  EXPECT_THROW(check_disjoint(split.manifest), InputError);
}

}  // namespace
}  // namespace cairn::data
