#pragma once
#include <string>
#include <string_view>

namespace cairn::app {

/// A text file that grows by whole lines: what finds no room is kept and tried again with the next line, and
/// a line that was written in part is taken back, so that the file is never torn by a full disk.
class LineFile {
 public:
  LineFile() = default;
  /// Appends to `path`. Throws Error naming the file and the reason.
  explicit LineFile(const std::string& path);
  ~LineFile();
  LineFile(LineFile&& other) noexcept;
  LineFile& operator=(LineFile&& other) noexcept;

  bool is_open() const { return file_ >= 0; }
  /// Writes it, and what is still waiting before it. Empty, or why not: "cannot write PATH: reason"; then the
  /// lines wait, up to 1 MiB of them.
  std::string append(std::string_view line);

 private:
  std::string path_;
  int file_ = -1;
  std::string waiting_;
};

}  // namespace cairn::app
