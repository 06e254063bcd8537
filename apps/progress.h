#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace cairn::app {

/// How far the work is, on standard error: one line that is rewritten on a terminal, else a plain line now
/// and then. Silent under --quiet.
class Progress {
 public:
  Progress(std::string title, std::int64_t total, bool quiet);
  ~Progress() { finish(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` of total; `note` stands behind the bar, e.g. the loss.
  void update(std::int64_t done, const std::string& note = {});
  /// Clears the bar; also done by the destructor.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  std::string title_;
  std::int64_t total_;
  bool silent_;
  bool terminal_;
  bool drawn_ = false;
  Clock::time_point begin_;
  Clock::time_point last_;
};

/// "1:05", "2:03:10".
std::string duration_text(double seconds);

}  // namespace cairn::app
