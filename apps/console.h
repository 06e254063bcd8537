#pragma once
#include <string>
#include <string_view>

#include "apps/line_file.h"

namespace cairn::app {

/// Where lines for people go. Information goes to standard output, or to standard error where the result on
/// standard output is for a machine (--json, --csv); --quiet leaves it out. Warnings always go to standard
/// error. Both go to the log of a run, once it has one.
class Console {
 public:
  Console(bool quiet, bool machine) : quiet_(quiet), machine_(machine) {}

  void say(std::string_view line);
  void warn(std::string_view line);
  /// What was asked for: standard output, --quiet or not.
  void result(std::string_view line);
  /// Appends to `path` from now on; throws Error if it cannot.
  void log_to(const std::string& path);
  bool quiet() const { return quiet_; }
  /// Says nothing from now on, not even warnings: another process says the same.
  void silence() { quiet_ = silent_ = true; }

 private:
  void log(std::string_view line);
  bool quiet_;
  bool machine_;
  bool silent_ = false;
  LineFile log_;
};

/// The text on one line: control characters and line breaks become spaces.
std::string one_line(std::string_view text);

}  // namespace cairn::app
