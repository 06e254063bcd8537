#include "data/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "data/csv.h"
#include "kernels/error.h"

namespace cairn::data {

namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& reason) {
  throw InputError(printable(path) + ": " + reason);
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::vector<uint8_t> read_file(const std::string& path, int64_t max_bytes) {
  if (path.find('\0') != std::string::npos) refuse(path, "the name holds a zero byte");
  // O_NONBLOCK: opening a pipe that nobody writes to must not hang; it has no effect on files.
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) refuse(path, std::string("cannot be opened: ") + std::strerror(errno));
  struct stat status {};
  if (fstat(file.get(), &status) != 0) refuse(path, std::string("cannot be read: ") + std::strerror(errno));
  if (S_ISDIR(status.st_mode)) refuse(path, "is a folder, not a file");
  if (!S_ISREG(status.st_mode)) refuse(path, "is not a regular file");
  if (status.st_size > max_bytes) {
    refuse(path, "has " + std::to_string(status.st_size) + " bytes, more than the " +
                     std::to_string(max_bytes) + " that are read");
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(status.st_size));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got = read(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) refuse(path, std::string("cannot be read: ") + std::strerror(errno));
    if (got == 0) refuse(path, "became shorter while it was read");
    done += static_cast<size_t>(got);
  }
  return bytes;
}

}  // namespace cairn::data
