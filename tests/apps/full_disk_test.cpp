// Disks that fill up or turn read-only: training goes on where it can, says so once, and keeps what it saved.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>

#include "apps/line_file.h"
#include "apps/run_state.h"
#include "apps/state_writer.h"
#include "data/atomic_file.h"
#include "kernels/error.h"
#include "models/registry.h"
#include "tests/apps/short_run.h"

namespace cairn::app {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

namespace fs = std::filesystem;

/// Files of this process cannot grow beyond so many bytes: a full disk that needs no right to mount one.
class SmallFiles {
 public:
  explicit SmallFiles(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~SmallFiles() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  SmallFiles(const SmallFiles&) = delete;
  SmallFiles& operator=(const SmallFiles&) = delete;

 private:
  sighandler_t handler_;
  rlimit before_{};
};

TEST(LineFile, IsNeverTornAndLosesNoLine) {
  const data::TempFolder folder;
  LineFile file(folder.path("log"));
  std::string expected;
  const auto append = [&](int i) {
    const std::string line = "line " + std::to_string(i) + std::string(30, '.');
    expected += line + "\n";
    return file.append(line);
  };
  EXPECT_EQ(append(0), "");
  {
    const SmallFiles limit(100);
    EXPECT_EQ(append(1), "");
    for (int i = 2; i < 10; ++i)
      EXPECT_EQ(append(i), "cannot write " + folder.path("log") + ": File too large");
    EXPECT_EQ(lines_of(read_file(folder.path("log"))).size(), 2U);
    EXPECT_THAT(read_file(folder.path("log")), testing::EndsWith(".\n"));
  }
  EXPECT_EQ(append(10), "");
  EXPECT_EQ(read_file(folder.path("log")), expected);
}

class Writer : public testing::Test {
 protected:
  explicit Writer(const std::string& name = "run") : name_(name) {}
  void open() {
    run_.emplace(RunDir::create(folder_.path(name_)));
    model_ = models::make_model("model_cnn", {.classes = 3, .image_size = 8, .seed = 1, .dropout = {}});
    parameters_ = std::make_unique<optim::FlatParameters>(*model_);
    optimizer_ = optim::make_optimizer(*parameters_, {});
    writer_ = std::make_unique<StateWriter>(*run_, 1, "", *model_, *optimizer_, console_);
  }
  // Saves a state of so many steps and waits for it; what was said meanwhile.
  std::string save(std::int64_t steps) {
    testing::internal::CaptureStderr();
    optimizer_->set_steps(steps);
    writer_->save({{"step", steps}});
    failure_ = data::message_of([&] { writer_->finish(); });
    writer_->report();
    return testing::internal::GetCapturedStderr();
  }
  std::int64_t saved() {
    testing::internal::CaptureStderr();
    const auto steps = find_state(*run_, console_).progress.at("step").get<std::int64_t>();
    EXPECT_THAT(testing::internal::GetCapturedStderr(), IsEmpty());
    return steps;
  }

  data::TempFolder folder_;
  std::string name_;
  Console console_{true, false};
  std::optional<RunDir> run_;
  std::unique_ptr<nn::Module> model_;
  std::unique_ptr<optim::FlatParameters> parameters_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::unique_ptr<StateWriter> writer_;
  std::string failure_;
};

TEST_F(Writer, AFullDiskIsSaidOnceAndTheStateBeforeStays) {
  open();
  {
    const SmallFiles limit(100'000);
    EXPECT_THAT(save(1), AllOf(StartsWith("warning: cannot write "), HasSubstr("File too large"),
                               HasSubstr("no state has been saved so far")));
  }
  EXPECT_THAT(save(2), IsEmpty());
  EXPECT_EQ(saved(), 2);
  {
    const SmallFiles limit(100'000);
    EXPECT_THAT(save(3),
                AllOf(HasSubstr("last.state: File too large"), HasSubstr("the state of step 2 stays")));
    EXPECT_THAT(failure_, HasSubstr("cairn train --resume " + run_->path()));
    EXPECT_THAT(save(4), IsEmpty());  // once
    EXPECT_EQ(saved(), 2);
  }
  EXPECT_THAT(save(5), IsEmpty());
  EXPECT_EQ(failure_, "");
  EXPECT_EQ(saved(), 5);
  EXPECT_EQ(older_states(*run_).at(0).step, 2);
}

class MountedWriter : public Writer {
 protected:
  MountedWriter() : Writer("disk/run"), disk_(folder_.path("disk"), "size=64m") {}
  ~MountedWriter() override {
    writer_.reset();
    run_.reset();  // its lock is a file on the disk
  }
  Mounted disk_;
};

TEST_F(MountedWriter, AFileSystemThatTurnsReadOnlyKeepsTheState) {
  if (!disk_.ok()) GTEST_SKIP() << "needs the right to mount a tmpfs";
  open();
  EXPECT_THAT(save(1), IsEmpty());
  // The lock's file is open to be written: the run is found again without it.
  data::write_file_atomically(run_->config(), "{}");
  const std::string path = run_->path();
  writer_.reset();
  run_.reset();
  run_.emplace(RunDir::open(path));
  writer_ = std::make_unique<StateWriter>(*run_, 1, run_->state(), *model_, *optimizer_, console_);
  ASSERT_TRUE(disk_.change("size=64m", MS_RDONLY));
  EXPECT_THAT(save(2), AllOf(HasSubstr("Read-only file system"), HasSubstr("the state of step 1 stays")));
  EXPECT_EQ(saved(), 1);
  ASSERT_TRUE(disk_.change("size=64m"));
  EXPECT_THAT(save(3), IsEmpty());
  EXPECT_EQ(saved(), 3);
}

class FullDisk : public ShortRun {};

// Room for the weights and not for a state: all its failures are one warning, the last one the exit status.
TEST_F(FullDisk, TrainingGoesOnWithoutStatesAndSaysSoAtTheEnd) {
  const SmallFiles limit(1'000'000);
  const Outcome o = cairn(train("run"));
  EXPECT_EQ(o.status, 1);
  const std::vector<std::string> lines = lines_of(o.err);
  ASSERT_EQ(lines.size(), 2U) << o.err;
  EXPECT_THAT(lines[0], AllOf(StartsWith("warning: cannot write "), HasSubstr("training goes on")));
  EXPECT_THAT(lines[1], AllOf(StartsWith("error: cannot write "), HasSubstr("no state has been saved")));
  EXPECT_EQ(lines_of(read_file(path("run/metrics.jsonl"))).size(), 24U);  // 21 steps, 3 epochs
  EXPECT_THAT(unfinished_files("run"), IsEmpty());
}

TEST_F(FullDisk, WhatWasSavedBeforeItFilledIsGoneOnWith) {
  finish("whole");
  const std::int64_t state = static_cast<std::int64_t>(fs::file_size(path("whole/checkpoints/last.state")));
  // One state fits and the weights, a second state does not.
  const Mounted disk(path("disk"), "size=" + std::to_string(state * 19 / 10));
  if (!disk.ok()) GTEST_SKIP() << "needs the right to mount a tmpfs";
  const Outcome full = cairn(train("disk/run"));
  EXPECT_EQ(full.status, 1);
  EXPECT_THAT(full.err, AllOf(HasSubstr("No space left on device"), HasSubstr("the state of step 1 stays"),
                              HasSubstr("cairn train --resume " + path("disk/run"))));
  EXPECT_EQ(position("disk/run"), 1);
  EXPECT_THAT(unfinished_files("disk/run"), IsEmpty());
  ASSERT_TRUE(disk.change("size=64m"));
  const Outcome o = cairn("train --quiet --resume " + path("disk/run"));
  ASSERT_EQ(o.status, 0) << o.err;
  expect_same_weights("whole", "disk/run");
}

}  // namespace
}  // namespace cairn::app
