#include "kernels/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>

#include "kernels/error.h"
#include "tests/data/temp_folder.h"

namespace cairn {
namespace {

using data::message_of;
using data::TempFolder;
using testing::HasSubstr;

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::int64_t files_in(const std::string& folder) {
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

// A process killed while writing leaves a file behind; the next one, perhaps of the same id, is not stopped
// by it.
TEST(AtomicFile, WhatAKilledProcessLeftBehindIsKnownAndInNobodysWay) {
  const TempFolder folder;
  std::string left;
  {
    AtomicFile file(folder.path("a"));
    file.write("half", 4);
    for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
      left = entry.path().filename().string();
  }
  EXPECT_TRUE(is_unfinished_file(left)) << left;
  for (const char* name : {"a", "last.state", ".tmp1.2", "a.tmp", "a.tmp1.2.png", "a.tmpx"})
    EXPECT_FALSE(is_unfinished_file(name)) << name;
  const std::size_t dot = left.rfind('.');
  const unsigned counter = static_cast<unsigned>(std::stoul(left.substr(dot + 1)));
  const std::string next = left.substr(0, dot + 1) + std::to_string(counter + 1);
  folder.write(next, "left by a process of this id");
  write_file_atomically(folder.path("a"), "new");
  EXPECT_EQ(read(folder.path("a")), "new");
  EXPECT_EQ(files_in(folder.path()), 1);
}

}  // namespace
}  // namespace cairn
