#pragma once
#include <cstddef>
#include <string>

namespace cairn::io {

/// Writes a file piece by piece under another name in the same folder; commit() syncs and renames it, so that
/// a reader, or a crash, sees the old content or the new, never half of it. Without commit() nothing is left.
/// Errors (no room, no permission, no folder) throw cairn::Error naming the file and the reason.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void commit();

 private:
  [[noreturn]] void fail(int error) const;
  std::string path_;
  std::string temporary_;
  int file_ = -1;
};

}  // namespace cairn::io
