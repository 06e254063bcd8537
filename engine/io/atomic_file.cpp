#include "engine/io/atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "kernels/error.h"

namespace cairn::io {

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  // Process id and a counter: two writers of one file never share a temporary.
  static std::atomic<unsigned> counter{0};
  temporary_ = path_ + ".tmp" + std::to_string(::getpid()) + '.' + std::to_string(counter.fetch_add(1));
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file_ < 0) fail(errno);
}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::fail(int error) const {
  throw Error("cannot write " + path_ + ": " + std::generic_category().message(error));
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(file_, next, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(errno);
    next += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

void AtomicFile::commit() {
  if (::fsync(file_) != 0) fail(errno);
  if (::close(std::exchange(file_, -1)) != 0) fail(errno);
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail(errno);
  temporary_.clear();
  // The rename itself reaches the disk with its folder. Some file systems refuse to sync a folder; the file's
  // content is safe either way.
  const std::size_t slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const int folder_file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder_file >= 0) {
    ::fsync(folder_file);
    ::close(folder_file);
  }
}

}  // namespace cairn::io
