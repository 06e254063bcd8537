#include "apps/run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <sstream>
#include <system_error>

#include "apps/console.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "this machine";
}

// What the holder wrote of itself; it may be about to.
std::string holder(int file) {
  char text[512];
  const ssize_t n = ::pread(file, text, sizeof text, 0);
  std::istringstream words(std::string(text, static_cast<std::size_t>(n > 0 ? n : 0)));
  std::string pid, host;
  if (!(words >> pid >> host)) return "another process";
  return one_line("process " + pid + " on " + host);
}

}  // namespace

RunLock::RunLock(const std::string& run) {
  const std::string path = run + "/lock";
  const auto reason = [] { return std::generic_category().message(errno); };
  file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (file_ < 0) throw Error("cannot write " + path + ": " + reason());
  if (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
    const int error = errno;
    const std::string who = holder(file_);
    ::close(file_);
    file_ = -1;
    if (error == EWOULDBLOCK)
      throw InputError(run + " is being trained by " + who + ": wait for it or stop it first");
    return;  // a file system without locks: nothing can be said about others
  }
  const std::string text = std::to_string(::getpid()) + " " + host_name() + "\n";
  // On a full disk the lock still holds; only the message would lack the name.
  if (::ftruncate(file_, 0) == 0) static_cast<void>(::pwrite(file_, text.data(), text.size(), 0) == 0);
}

RunLock::~RunLock() {
  if (file_ >= 0) ::close(file_);
}

}  // namespace cairn::app
