#include "apps/console.h"

#include <cstdio>
#include <ctime>

namespace cairn::app {
namespace {

void put(std::FILE* file, std::string_view line) {
  std::fwrite(line.data(), 1, line.size(), file);
  std::fputc('\n', file);
  std::fflush(file);
}

}  // namespace

void Console::say(std::string_view line) {
  log(line);
  if (!quiet_) put(machine_ ? stderr : stdout, line);
}

void Console::warn(std::string_view line) {
  if (silent_) return;
  const std::string text = "warning: " + one_line(line);
  log(text);
  put(stderr, text);
}

void Console::result(std::string_view line) {
  if (silent_) return;
  log(line);
  put(stdout, line);
}

void Console::log_to(const std::string& path) { log_ = LineFile(path); }

void Console::log(std::string_view line) {
  if (!log_.is_open()) return;
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  char stamp[32];
  std::strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S ", localtime_r(&now, &parts));
  static_cast<void>(log_.append(stamp + std::string(line)));  // where it has no room, the rest says so
}

std::string one_line(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  return result;
}

}  // namespace cairn::app
