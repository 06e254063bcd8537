#pragma once
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "kernels/error.h"

// All of it stands in the header, as with error.h: the engine and the data both write files, and the data's
// objects are linked without the kernels'.
namespace cairn {

/// Makes renames and links within a folder reach the disk. Some file systems refuse to sync a folder; content
/// that was synced is safe either way.
inline void sync_folder(const std::string& folder) {
  const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return;
  ::fsync(file);
  ::close(file);
}

/// Writes a file piece by piece under another name in the same folder; commit() syncs and renames it, so that
/// a reader, or a crash, sees the old content or the new, never half of it. Without commit() nothing is left.
/// Errors (no room, no permission, no folder) throw cairn::Error naming the file and the reason.
class AtomicFile {
 public:
  /// What the other name has behind its own, before "PID.COUNTER".
  static constexpr std::string_view kSuffix = ".tmp";

  explicit AtomicFile(std::string path) : path_(std::move(path)) {
    // Process id and a counter: two writers of one file never share a temporary.
    static std::atomic<unsigned> counter{0};
    temporary_ = path_ + std::string(kSuffix) + std::to_string(::getpid()) + '.' +
                 std::to_string(counter.fetch_add(1));
    // No O_EXCL: in a container a process killed here may have had the same id.
    file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (file_ < 0) fail(errno);
  }
  ~AtomicFile() {
    if (file_ >= 0) ::close(file_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes) {
    const auto* next = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t n = ::write(file_, next, bytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(errno);
      next += n;
      bytes -= static_cast<std::size_t>(n);
    }
  }
  /// All of it is on the disk, under the other name still: the last moment at which the old file can be kept.
  void sync() {
    if (::fsync(file_) != 0) fail(errno);
  }
  /// sync(), rename, and sync of the folder.
  void commit() {
    sync();
    if (::close(std::exchange(file_, -1)) != 0) fail(errno);
    if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail(errno);
    temporary_.clear();
    const std::size_t slash = path_.rfind('/');
    sync_folder(slash == std::string::npos ? "." : path_.substr(0, slash + 1));
  }

 private:
  [[noreturn]] void fail(int error) const {
    throw Error("cannot write " + path_ + ": " + std::generic_category().message(error));
  }
  std::string path_;
  std::string temporary_;
  int file_ = -1;
};

/// Replaces a file's content in one step, as AtomicFile does.
inline void write_file_atomically(const std::string& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content.data(), content.size());
  file.commit();
}

/// Whether a file of this name is what an AtomicFile left behind when its process was killed.
inline bool is_unfinished_file(std::string_view name) {
  const std::size_t suffix = name.rfind(AtomicFile::kSuffix);
  if (suffix == std::string_view::npos || suffix == 0) return false;
  const std::string_view numbers = name.substr(suffix + AtomicFile::kSuffix.size());
  return !numbers.empty() && std::all_of(numbers.begin(), numbers.end(),
                                         [](char c) { return c == '.' || (c >= '0' && c <= '9'); });
}

}  // namespace cairn
