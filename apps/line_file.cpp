#include "apps/line_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "kernels/error.h"

namespace cairn::app {
namespace {

// A disk that stays full must not fill the memory instead.
constexpr std::size_t kMostWaiting = std::size_t{1} << 20;

std::string cannot_write(const std::string& path, int error) {
  return "cannot write " + path + ": " + std::generic_category().message(error);
}

}  // namespace

LineFile::LineFile(const std::string& path) : path_(path) {
  file_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file_ < 0) throw Error(cannot_write(path, errno));
}

LineFile::~LineFile() {
  if (file_ >= 0) ::close(file_);
}

LineFile::LineFile(LineFile&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, -1)),
      waiting_(std::move(other.waiting_)) {}

LineFile& LineFile::operator=(LineFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(file_, other.file_);
  std::swap(waiting_, other.waiting_);
  return *this;
}

std::string LineFile::append(std::string_view line) {
  if (waiting_.size() + line.size() < kMostWaiting) waiting_.append(line).push_back('\n');
  const off_t before = ::lseek(file_, 0, SEEK_END);
  std::size_t written = 0;
  while (written < waiting_.size()) {
    const ssize_t n = ::write(file_, waiting_.data() + written, waiting_.size() - written);
    if (n < 0 && errno == EINTR) continue;
    if (n >= 0) {
      written += static_cast<std::size_t>(n);
      continue;
    }
    const int error = errno;
    if (written > 0 && before >= 0 && ::ftruncate(file_, before) != 0)
      waiting_.erase(0, written);  // it stays in part; the rest will complete it
    return cannot_write(path_, error);
  }
  waiting_.clear();
  return {};
}

}  // namespace cairn::app
