#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "data/dataset/dataset.h"
#include "kernels/error.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Tar blocks laid out by hand from POSIX.1-2001, pax Interchange Format.
std::string header(const std::string& name, uint64_t size, char type = '0', const std::string& prefix = "",
                   bool posix = true) {
  std::string block(512, '\0');
  block.replace(0, name.size(), name);
  char field[13];
  std::snprintf(field, sizeof field, "%011llo", static_cast<unsigned long long>(size));
  block.replace(124, 11, field);
  block[156] = type;
  block.replace(257, 8, posix ? std::string("ustar\00000", 8) : std::string("ustar  \0", 8));
  block.replace(345, prefix.size(), prefix);
  block.replace(148, 8, "        ");
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<unsigned char>(c);
  std::snprintf(field, sizeof field, "%06o", sum);
  block.replace(148, 7, std::string(field, 7));
  return block;
}

std::string padded(std::string data) {
  data.resize((data.size() + 511) / 512 * 512, '\0');
  return data;
}

std::string entry(const std::string& name, const std::string& data, char type = '0',
                  const std::string& prefix = "") {
  return header(name, data.size(), type, prefix) + padded(data);
}

const std::string kEnd(1024, '\0');

std::string pair_of(const std::string& key, const std::string& label, const std::string& data = "pixels") {
  return entry(key + ".jpg", data) + entry(key + ".cls", label + "\n");
}

class TarDataset : public testing::Test {
 protected:
  Dataset open(const std::string& bytes) {
    folder_.write("s-0.tar", bytes);
    return open_dataset(folder_.path("s-0.tar"));
  }
  std::string error(const std::string& bytes) {
    return message_of([&] { open(bytes); });
  }
  TempFolder folder_;
};

TEST_F(TarDataset, ReadsByOffsetAndSortsNumbers) {
  const Dataset dataset = open(pair_of("./b", "10", "BB") + pair_of("a", "2", std::string(700, 'A')) + kEnd);
  EXPECT_THAT(dataset.classes, ElementsAre("2", "10"));
  ASSERT_EQ(dataset.items.size(), 2u);
  EXPECT_EQ(dataset.items[0].path, "s-0.tar/a.jpg");
  EXPECT_EQ(dataset.items[0].label, 0);
  EXPECT_EQ(dataset.read_bytes(dataset.items[0]), std::vector<uint8_t>(700, 'A'));
  EXPECT_EQ(dataset.read_bytes(dataset.items[1]), std::vector<uint8_t>(2, 'B'));
}

TEST_F(TarDataset, LongNames) {
  const std::string deep(120, 'd');
  const std::string gnu = deep + "/gnu", pax = deep + "/pax";
  const auto record = [](const std::string& key, const std::string& value) {
    const std::string body = " " + key + "=" + value + "\n";
    size_t length = body.size() + 1;
    while (std::to_string(length).size() + body.size() != length) ++length;
    return std::to_string(length) + body;
  };
  std::string bytes;
  for (const char* extension : {".png", ".cls"}) {
    bytes += entry("././@LongLink", gnu + extension + std::string(1, '\0'), 'L') + entry("short", "x");
    bytes +=
        entry("pax", record("mtime", "1.5") + record("path", pax + extension), 'x') + entry("short", "y");
    bytes += entry(std::string("file") + extension, "x", '0', "some/prefix");
  }
  const Dataset dataset = open(bytes);
  ASSERT_EQ(dataset.items.size(), 3u);
  EXPECT_EQ(dataset.items[0].path, "s-0.tar/" + gnu + ".png");
  EXPECT_EQ(dataset.items[1].path, "s-0.tar/" + pax + ".png");
  EXPECT_EQ(dataset.items[2].path, "s-0.tar/some/prefix/file.png");
}

TEST_F(TarDataset, FolderOfShards) {
  folder_.write("s/1.tar", pair_of("a", "x") + pair_of("b", "y") + kEnd);
  folder_.write("s/2.tar", pair_of("a", "y") + pair_of("b", "x") + kEnd);
  const Dataset dataset = open_dataset(folder_.path("s"));
  EXPECT_EQ(dataset.items.size(), 4u);
  EXPECT_EQ(dataset.items[2].path, "2.tar/a.jpg");
  EXPECT_EQ(dataset.items[2].label, 1);
}

TEST_F(TarDataset, HostileNamesAreRefused) {
  for (const char* name : {"../x", "/etc/x", "a/../../x"}) {
    EXPECT_THAT(error(pair_of(name, "1") + kEnd), HasSubstr("leaves the shard's own folder")) << name;
  }
}

TEST_F(TarDataset, DamageIsNamedWithItsPlace) {
  const std::string good = pair_of("a", "1");
  EXPECT_THAT(error(good + std::string(512, 'x')), HasSubstr("at byte 2048: no tar header"));
  EXPECT_THAT(error(good + header("b.jpg", 5000)), HasSubstr("goes past the end"));
  EXPECT_THAT(error(good + header("b.jpg", 5).substr(0, 100)), HasSubstr("cut short"));
  EXPECT_THAT(error(entry("a.jpg", "x") + kEnd), HasSubstr("a.jpg has no a.cls beside it"));
  EXPECT_THAT(error(entry("a.jpg", "x") + pair_of("a", "1")), HasSubstr("have the same key"));
  EXPECT_THAT(error(pair_of("a", " ")), HasSubstr("a.cls is empty"));
  EXPECT_THAT(error(pair_of("a", "1\n2")), HasSubstr("more than one line"));
  EXPECT_THAT(error(kEnd), HasSubstr("no images"));
  for (const char* pax : {"99 path=a\n", "x", "9999999999999999999 path=a\n", "12 path=abcdef"}) {
    EXPECT_THAT(error(entry("p", pax, 'x') + good), HasSubstr("malformed pax record")) << pax;
  }
  EXPECT_THAT(error(entry("p", "14 size=1e999\n", 'x') + good), HasSubstr("no number"));
  EXPECT_THAT(error(header("p", 1 << 20, 'L') + std::string(1 << 20, 'a')), HasSubstr("a name record of"));
}

// Sizes near 2^64 in base 256 must not wrap around.
TEST_F(TarDataset, HugeSizesAreRefused) {
  for (const int top : {0x80, 0xFF}) {
    std::string block = header("a.jpg", 0);
    block.replace(124, 12, std::string(12, '\xFF'));
    block[124] = static_cast<char>(top);
    block.replace(148, 8, "        ");
    unsigned sum = 0;
    for (const char c : block) sum += static_cast<unsigned char>(c);
    char field[8];
    std::snprintf(field, sizeof field, "%06o", sum);
    block.replace(148, 7, std::string(field, 7));
    EXPECT_THAT(error(block + kEnd), HasSubstr("beyond all bounds"));
  }
}

// Any single-byte change of a good shard (one of each three in turn) opens or is refused; nothing else
// happens.
TEST_F(TarDataset, AnyFlippedByteIsHarmless) {
  const std::string good =
      entry("p", "16 path=q/r.jpg\n", 'x') + entry("a", "pixels") + entry("q/r.cls", "1") + kEnd;
  int refused = 0, opened = 0;
  for (size_t i = 0; i < good.size(); i += 3) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 0x55);
    folder_.write("s-0.tar", bad);
    try {
      open_dataset(folder_.path("s-0.tar"));
      ++opened;
    } catch (const InputError&) {
      ++refused;
    }
  }
  // All of a header's bytes are under its checksum, and there are three headers; what lies behind the data
  // and the end mark does not matter.
  EXPECT_GE(refused, 3 * 512 / 3);
  EXPECT_GE(opened, 2 * 400 / 3);
}

}  // namespace
}  // namespace cairn::data
