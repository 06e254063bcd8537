#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/apps/program.h"

namespace cairn::app {

/// Runs of ModelCNN on 8 x 8 pixels that save a state at every step: 3 epochs of 7 steps.
class ShortRun : public testing::Test {
 protected:
  ShortRun() { make_data(folder_, 3, 14); }

  std::string path(const std::string& name) const { return folder_.path(name); }
  /// The arguments that train `run`.
  std::string train(const std::string& run, const std::string& more = "") const;
  /// Trains `run` to its end.
  void finish(const std::string& run, const std::string& more = "") const;
  std::string weights(const std::string& run, const std::string& which) const;
  void expect_same_weights(const std::string& a, const std::string& b) const;
  /// Steps into the run of the newest whole state, as a resume would find it; 0: there is none.
  std::int64_t position(const std::string& run) const;
  std::vector<std::string> unfinished_files(const std::string& run) const;

  data::TempFolder folder_;
};

}  // namespace cairn::app
