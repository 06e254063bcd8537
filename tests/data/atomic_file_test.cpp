#include "data/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "kernels/error.h"
#include "tests/data/temp_folder.h"

namespace cairn::data {
namespace {

using testing::HasSubstr;

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

int64_t files_in(const std::string& folder) {
  return std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator());
}

TEST(AtomicFile, ReplacesContentAndLeavesNothingElse) {
  const TempFolder folder;
  write_file_atomically(folder.path("a"), "one");
  write_file_atomically(folder.path("a"), std::string(100000, 'x'));
  EXPECT_EQ(read(folder.path("a")), std::string(100000, 'x'));
  EXPECT_EQ(files_in(folder.path()), 1);
}

TEST(AtomicFile, MissingFolderIsNamed) {
  const TempFolder folder;
  EXPECT_THAT(message_of([&] { write_file_atomically(folder.path("none/a"), "x"); }),
              HasSubstr("none/a: No such file"));
}

// A file-size limit stands in for a full disk: the write fails half-way, the old content stays, no temporary
// stays.
TEST(AtomicFile, FailedWriteKeepsTheOldContent) {
  const TempFolder folder;
  write_file_atomically(folder.path("a"), "old");
  rlimit old_limit{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit = old_limit;
  limit.rlim_cur = 4096;
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const std::string message =
      message_of([&] { write_file_atomically(folder.path("a"), std::string(9000, 'x')); });
  setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
  EXPECT_THAT(message, HasSubstr("cannot write " + folder.path("a") + ": File too large"));
  EXPECT_EQ(read(folder.path("a")), "old");
  EXPECT_EQ(files_in(folder.path()), 1);
}

}  // namespace
}  // namespace cairn::data
