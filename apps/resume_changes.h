#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "apps/console.h"
#include "apps/options.h"

namespace cairn::app {

/// What a resumed run finds otherwise than it was begun with.
class ResumeChanges {
 public:
  /// The options to go on with: those of the run, but for the ones of the table that the command line gives.
  /// An option that decides the result and differs is a change; those that only say where and how often
  /// things are read and written are free. Throws InputError for --out, which cannot change.
  TrainOptions merge(const CLI::App& command, const TrainOptions& given, const nlohmann::json& of_run);
  /// What is no option of the table.
  void setting(const std::string& name, const nlohmann::json& now, const nlohmann::json& of_run);
  /// The list of classes; another number of them is no change but the end: throws InputError.
  void classes(const std::vector<std::string>& of_run, const std::vector<std::string>& now);
  void data(const std::vector<std::string>& differences);

  bool any() const { return !differences_.empty(); }
  /// Throws InputError with all differences unless there are none or they are accepted; then each is a
  /// warning.
  void settle(bool accepted, Console& console) const;

 private:
  std::vector<std::string> differences_;
};

}  // namespace cairn::app
