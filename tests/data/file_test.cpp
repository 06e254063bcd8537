#include "data/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "kernels/error.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using testing::HasSubstr;

std::string error(const std::string& path, int64_t max_bytes = kMaxFileBytes) {
  try {
    read_file(path, max_bytes);
  } catch (const InputError& caught) {
    return caught.what();
  }
  return "";
}

TEST(ReadFile, GivesTheBytes) {
  const TempFolder folder;
  const std::string content("a\0b\n\xFF", 5);
  folder.write("x", content);
  folder.write("empty", "");
  const auto bytes = read_file(folder.path("x"));
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), content);
  EXPECT_TRUE(read_file(folder.path("empty")).empty());
}

TEST(ReadFile, SaysWhyNot) {
  const TempFolder folder;
  folder.write("x", "12345");
  EXPECT_THAT(error(folder.path("none")), HasSubstr("none: cannot be opened: No such file"));
  EXPECT_THAT(error(folder.path()), HasSubstr("is a folder"));
  EXPECT_THAT(error(folder.path("x"), 4), HasSubstr("has 5 bytes, more than the 4"));
  EXPECT_THAT(error(std::string("a\0b", 3)), HasSubstr("zero byte"));
  ASSERT_EQ(mkfifo(folder.path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(error(folder.path("pipe")), HasSubstr("not a regular file"));  // and does not hang
}

}  // namespace
}  // namespace cairn::data
