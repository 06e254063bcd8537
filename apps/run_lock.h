#pragma once
#include <string>

namespace cairn::app {

/// One training at a time in a run directory. The lock is the kernel's (flock of RUN/lock), so that it ends
/// with its process however that ends; the file's text, "PID HOST", is for the message alone.
class RunLock {
 public:
  /// Throws InputError naming the process that holds the directory, Error where the file cannot be made.
  explicit RunLock(const std::string& run);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int file_ = -1;
};

}  // namespace cairn::app
