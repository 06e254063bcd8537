#include "apps/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace cairn::app {
namespace {

constexpr double kTerminalInterval = 0.1;  // seconds between redraws: smooth, and costs nothing
constexpr double kPlainInterval = 10;      // seconds between lines of a log file

std::size_t terminal_columns() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20) return size.ws_col;
  return 80;
}

}  // namespace

Progress::Progress(std::string title, std::int64_t total, bool quiet)
    : title_(std::move(title)),
      total_(total),
      silent_(quiet),
      terminal_(isatty(STDERR_FILENO) == 1),
      begin_(Clock::now()),
      last_(begin_) {}

void Progress::update(std::int64_t done, const std::string& note) {
  if (silent_) return;
  const Clock::time_point now = Clock::now();
  const double since = std::chrono::duration<double>(now - last_).count();
  if (since < (terminal_ ? kTerminalInterval : kPlainInterval)) return;
  last_ = now;
  const double elapsed = std::chrono::duration<double>(now - begin_).count();
  std::string line = title_ + " ";
  if (terminal_) {
    constexpr std::int64_t kWidth = 20;
    const std::int64_t full = total_ > 0 ? std::min(kWidth, done * kWidth / total_) : 0;
    line += "[" + std::string(static_cast<std::size_t>(full), '=') +
            std::string(static_cast<std::size_t>(kWidth - full), ' ') + "] ";
  }
  line += std::to_string(done) + "/" + std::to_string(total_) + note;
  if (done > 0)
    line += ", " + duration_text(elapsed / static_cast<double>(done) * static_cast<double>(total_ - done)) +
            " left";
  if (terminal_) {
    line.resize(std::min(line.size(), terminal_columns() - 1));
    std::fprintf(stderr, "\r\033[K%s", line.c_str());
    drawn_ = true;
  } else {
    std::fprintf(stderr, "%s\n", line.c_str());
  }
  std::fflush(stderr);
}

void Progress::finish() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

std::string duration_text(double seconds) {
  const auto s = std::llround(std::max(seconds, 0.0));
  char text[32];
  if (s >= 3600)
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  else
    std::snprintf(text, sizeof text, "%lld:%02lld", s / 60, s % 60);
  return text;
}

}  // namespace cairn::app
