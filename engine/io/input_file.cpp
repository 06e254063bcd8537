#include "engine/io/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "kernels/error.h"

namespace cairn::io {

InputFile::InputFile(std::string path) : path_(std::move(path)) {
  file_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  if (file_ < 0) throw InputError("cannot read " + path_ + ": " + std::generic_category().message(errno));
  struct stat info {};
  if (::fstat(file_, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(file_);
    throw InputError("cannot read " + path_ + ": it is not a file");
  }
  size_ = static_cast<std::uint64_t>(info.st_size);
}

InputFile::~InputFile() { ::close(file_); }

void InputFile::fail(const std::string& message) const { throw InputError(path_ + ": " + message); }

std::vector<std::uint8_t> InputFile::read(std::uint64_t offset, std::uint64_t n) const {
  check_range(offset, n);  // before memory is taken for it
  std::vector<std::uint8_t> bytes(n);
  read(offset, bytes);
  return bytes;
}

void InputFile::check_range(std::uint64_t offset, std::uint64_t n) const {
  if (n > size_ || offset > size_ - n)
    fail("the file ends early (" + std::to_string(size_) + " bytes); it is cut off or damaged");
}

void InputFile::read(std::uint64_t offset, std::span<std::uint8_t> bytes) const {
  check_range(offset, bytes.size());
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t got =
        ::pread(file_, bytes.data() + done, bytes.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("cannot read: " + std::generic_category().message(errno));
    if (got == 0) fail("the file became shorter while it was read");
    done += static_cast<std::size_t>(got);
  }
}

}  // namespace cairn::io
