// The readers of weights on any bytes: tensors that can be read and fill their shapes, or InputError.
// CAIRN_FUZZ_READER is 0 for safetensors, 1 for PyTorch's .pth, 2 for a pickle alone, with no checksum before
// it, 3 for a checkpoint: a safetensors file whose sum and progress are read too.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "engine/io/pickle.h"
#include "engine/io/pth.h"
#include "engine/io/safetensors.h"
#include "kernels/error.h"

using namespace cairn;

namespace {

[[maybe_unused]] void read_all(const io::StoredTensors& stored) {
  for (const io::StoredTensor& t : stored.tensors) {
    // Only a tensor of the model's own shape is ever read; one expanded from a single number is none.
    if (t.shape.numel() > 1 << 20) continue;
    try {
      const std::vector<std::uint8_t> bytes = t.read();
      if (bytes.size() != static_cast<std::size_t>(t.shape.numel()) * size_of(t.dtype)) std::abort();
      if (!t.read_part) continue;
      const std::size_t half = bytes.size() / 2;
      std::vector<std::uint8_t> parts(bytes.size());
      t.read_part(half, std::span(parts).subspan(half));
      t.read_part(0, std::span(parts).first(half));
      if (parts != bytes) std::abort();
    } catch (const InputError&) {
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("fuzz", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (file < 0 || ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != static_cast<ssize_t>(size))
    std::abort();
  try {
#if CAIRN_FUZZ_READER == 0
    read_all(io::open_safetensors(path));
#elif CAIRN_FUZZ_READER == 1
    read_all(io::open_pth(path));
#elif CAIRN_FUZZ_READER == 3
    const io::StoredTensors stored = io::open_safetensors(path);
    read_all(stored);
    const auto progress = stored.metadata.find("progress");
    if (progress != stored.metadata.end())
      static_cast<void>(nlohmann::json::parse(progress->second, nullptr, /*allow_exceptions=*/false));
    io::check_sum(path);
#else
    if (!io::pickle::parse(io::InputFile(path), {data, data + size}).root) std::abort();
#endif
  } catch (const InputError&) {
  }
  return 0;
}
