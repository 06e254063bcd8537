#include "data/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/dataset/scan.h"
#include "data/split.h"
#include "kernels/error.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

Manifest example() {
  Manifest manifest;
  manifest.rows = {{"a/1, \"x\".jpg", "a", Part::train, "h1", -1, 0},
                   {"a/2.jpg", "a", Part::val, "h2", 3, 0},
                   {"b/3.jpg", "b", Part::test, "h3", -1, 0}};
  return manifest;
}

TEST(Manifest, ReadsBackWhatWasWritten) {
  const TempFolder folder;
  for (const Protocol protocol : {Protocol::split_first, Protocol::oversample_first}) {
    Manifest manifest = example();
    manifest.protocol = protocol;
    if (protocol == Protocol::oversample_first)
      manifest.rows.push_back({"a/2.jpg", "a", Part::test, "h2", 3, 1});
    write_manifest(folder.path("split.csv"), manifest);
    const Manifest back = read_manifest(folder.path("split.csv"));
    EXPECT_EQ(back.protocol, protocol);
    ASSERT_EQ(back.rows.size(), manifest.rows.size());
    for (size_t i = 0; i < back.rows.size(); ++i) {
      EXPECT_EQ(back.rows[i].path, manifest.rows[i].path);
      EXPECT_EQ(back.rows[i].label, manifest.rows[i].label);
      EXPECT_EQ(back.rows[i].part, manifest.rows[i].part);
      EXPECT_EQ(back.rows[i].hash, manifest.rows[i].hash);
      EXPECT_EQ(back.rows[i].duplicate_group, manifest.rows[i].duplicate_group);
      EXPECT_EQ(back.rows[i].copy, manifest.rows[i].copy);
    }
  }
}

TEST(Manifest, ErrorsNameTheLine) {
  const TempFolder folder;
  const auto error = [&](const std::string& rows) {
    folder.write("s.csv", "path,class,part,hash,duplicate_group\n" + rows);
    return message_of([&] { read_manifest(folder.path("s.csv")); });
  };
  EXPECT_THAT(error(""), HasSubstr("no images below the header"));
  EXPECT_THAT(error("1,a,train,h,\n1,a,val,h,\n"),
              HasSubstr("s.csv:3: 1 is listed a second time (first on line 2)"));
  EXPECT_THAT(error("1,a,dev,h,\n"), HasSubstr("s.csv:2: the part 'dev'"));
  EXPECT_THAT(error("1,a,train,h,-4\n"), HasSubstr("s.csv:2: the duplicate_group '-4'"));
  EXPECT_THAT(error("1,a,train,,\n"), HasSubstr("s.csv:2: a path, class or hash is empty"));
  folder.write("s.csv", "path,label\n1,a\n");
  EXPECT_THAT(message_of([&] { read_manifest(folder.path("s.csv")); }), HasSubstr("this is no split file"));
}

TEST(Manifest, LeaksByContentAndByGroupAreFound) {
  Manifest manifest = example();
  EXPECT_THAT(find_leaks(manifest), IsEmpty());
  manifest.rows.push_back({"b/4.jpg", "b", Part::train, "h3", -1, 0});
  manifest.rows.push_back({"b/5.jpg", "b", Part::train, "h5", 3, 0});
  EXPECT_THAT(find_leaks(manifest),
              ElementsAre("b/3.jpg (test) and b/4.jpg (train) hold the same content",
                          "a/2.jpg (val) and b/5.jpg (train) are in one duplicate group"));
  EXPECT_THAT(message_of([&] { check_disjoint(manifest); }), HasSubstr("b/3.jpg (test) and b/4.jpg (train)"));
}

class ManifestOfFiles : public testing::Test {
 protected:
  ManifestOfFiles() {
    for (int i = 0; i < 8; ++i) {
      folder_.write("set/a/" + std::to_string(i) + ".ppm", make_ppm(5, 4, 10 + i));
      folder_.write("set/b/" + std::to_string(i) + ".ppm", make_ppm(5, 4, 20 + i));
    }
  }
  TempFolder folder_;
};

TEST_F(ManifestOfFiles, DamagedFilesAreLeftOutAndNamed) {
  folder_.write("set/a/bad.jpg", "text renamed");
  folder_.write("set/b/empty.png", "");
  for (const int workers : {1, 2, 7}) {
    Dataset dataset = open_dataset(folder_.path("set"));
    ScanOptions options;
    options.workers = workers;
    int64_t last = 0;
    options.progress = [&](int64_t done, int64_t) { last = done; };
    const Scan scan = scan_dataset(dataset, options);
    EXPECT_EQ(last, 18);
    EXPECT_EQ(dataset.items.size(), 16u);
    EXPECT_EQ(scan.hashes.size(), 16u);
    ASSERT_EQ(scan.damaged.size(), 2u);
    EXPECT_EQ(scan.damaged[0].path, "a/bad.jpg");
    EXPECT_EQ(scan.damaged[1].path, "b/empty.png");
    ASSERT_EQ(scan.warnings.size(), 3u);
    EXPECT_THAT(scan.warnings[0], HasSubstr("left out a/bad.jpg: "));
    EXPECT_THAT(scan.warnings[2], HasSubstr("2 of 18 images could not be read"));
  }
}

TEST_F(ManifestOfFiles, AClassOfDamagedFilesIsAnError) {
  folder_.write("set/c/1.jpg", "text");
  Dataset dataset = open_dataset(folder_.path("set"));
  EXPECT_THAT(message_of([&] { scan_dataset(dataset, {}); }),
              HasSubstr("class 'c' has no image that can be read"));
}

TEST_F(ManifestOfFiles, PartsAndContentsAreChecked) {
  Dataset dataset = open_dataset(folder_.path("set"));
  const Scan scan = scan_dataset(dataset, {});
  const Manifest manifest = split_dataset(dataset, scan.hashes, {}).manifest;
  size_t all = 0;
  for (const Part part : {Part::train, Part::val, Part::test}) {
    const auto items = part_items(dataset, manifest, part);
    EXPECT_TRUE(std::is_sorted(items.begin(), items.end()));
    for (const int64_t i : items) EXPECT_EQ(manifest.rows[i].part, part);
    all += items.size();
  }
  EXPECT_EQ(all, 16u);
  Manifest same = manifest;
  EXPECT_THAT(update_manifest(same, dataset), testing::IsEmpty());
  folder_.write("set/b/3.ppm", make_ppm(5, 4, 99));
  std::filesystem::remove(folder_.path("set/a/0.ppm"));
  Manifest updated = manifest;
  const Dataset later = open_folder(folder_.path("set"));
  EXPECT_THAT(update_manifest(updated, later, 2),
              testing::ElementsAre("a/0.ppm is gone", "b/3.ppm has other content"));
  EXPECT_EQ(updated.rows.size(), manifest.rows.size() - 1);
  EXPECT_THAT(update_manifest(updated, later), testing::IsEmpty());

  Manifest other = manifest;
  other.rows[0].label = "b";
  EXPECT_THAT(message_of([&] { part_items(dataset, other, other.rows[0].part); }),
              HasSubstr("as 'b', the data set as 'a'"));
  other.rows[0].path = "a/none.ppm";
  EXPECT_THAT(message_of([&] { part_items(dataset, other, other.rows[0].part); }),
              HasSubstr("a/none.ppm, which is not"));
}

}  // namespace
}  // namespace cairn::data
