// The tar reader on any bytes: items that lie within the shard and can be read, or InputError.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "data/dataset/dataset.h"
#include "kernels/error.h"

using namespace cairn::data;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("fuzz.tar", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (file < 0 || ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size))
    std::abort();
  try {
    const Dataset dataset = open_tar({path});
    for (const Item& item : dataset.items) {
      if (dataset.read_bytes(item).size() != item.size) std::abort();
      if (item.label < 0 || item.label >= static_cast<int32_t>(dataset.classes.size())) std::abort();
    }
  } catch (const cairn::InputError&) {
  }
  return 0;
}
