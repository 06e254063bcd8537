#include "apps/report/tfevents.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "kernels/error.h"

namespace cairn::report {
namespace {

namespace fs = std::filesystem;

std::span<const std::uint8_t> bytes_of(std::string_view s) {
  return {reinterpret_cast<const std::uint8_t*>(s.data()), s.size()};
}

TEST(TfEvents, Crc32cKnownAnswers) {
  EXPECT_EQ(crc32c(bytes_of("123456789")), 0xE3069283u) << "the check value of CRC-32C";
  EXPECT_EQ(crc32c(bytes_of(std::string(32, '\0'))), 0x8A9136AAu) << "RFC 3720, B.4";
  EXPECT_EQ(crc32c(bytes_of(std::string(32, '\xFF'))), 0x62A8AB43u) << "RFC 3720, B.4";
}

TEST(TfEvents, RecordsAreFramedAndChecked) {
  const fs::path folder = fs::temp_directory_path() / ("tfevents_test_" + std::to_string(::getpid()));
  fs::create_directories(folder);
  std::string path;
  {
    EventWriter writer(folder.string(), 1700000000.5);
    writer.scalar("val/accuracy", 7, 1700000001.0, 0.75f);
    const float values[] = {-1.0f, 0.0f, 0.5f, 0.5f, 3.0f};
    writer.histogram("fc.weight", 7, 1700000002.0, values);
    path = writer.path();
  }
  std::ifstream in(path, std::ios::binary);
  const std::string data{std::istreambuf_iterator<char>(in), {}};
  fs::remove_all(folder);
  const auto masked = [](std::string_view s) { return std::rotr(crc32c(bytes_of(s)), 15) + 0xA282EAD8u; };
  std::vector<std::string> events;
  for (std::size_t at = 0; at < data.size();) {
    ASSERT_GE(data.size(), at + 16);
    std::uint64_t length = 0;
    std::uint32_t crc = 0;
    std::memcpy(&length, data.data() + at, 8);
    std::memcpy(&crc, data.data() + at + 8, 4);
    EXPECT_EQ(crc, masked(std::string_view(data).substr(at, 8)));
    ASSERT_LE(at + 16 + length, data.size());
    events.push_back(data.substr(at + 12, length));
    std::memcpy(&crc, data.data() + at + 12 + length, 4);
    EXPECT_EQ(crc, masked(events.back()));
    at += 16 + length;
  }
  ASSERT_EQ(events.size(), 3u);
  EXPECT_NE(events[0].find("brain.Event:2"), std::string::npos);
  EXPECT_NE(events[1].find("val/accuracy"), std::string::npos);
  const float value = 0.75f;
  EXPECT_NE(events[1].find(std::string(reinterpret_cast<const char*>(&value), 4)), std::string::npos);
  EXPECT_NE(events[2].find("fc.weight"), std::string::npos);
}

TEST(TfEvents, FolderThatIsNotThere) { EXPECT_THROW(EventWriter("/nonexistent/folder", 0), InputError); }

}  // namespace
}  // namespace cairn::report
