// Writes every image of a data set, decoded and stretched to 224 x 224, as raw RGB bytes in path order:
// dump_pixels FOLDER fast|exact OUT, and its paths, one a line, to OUT.txt. For
// bench/peers/decode_distance.py.
#include <cstdio>
#include <cstring>
#include <fstream>

#include "data/dataset/dataset.h"
#include "data/decode/decode.h"
#include "data/resize.h"
#include "kernels/error.h"

namespace cairn::data {
namespace {

constexpr int kSize = 224;

int dump(const std::string& folder, bool fast, const std::string& out) {
  const Dataset dataset = open_dataset(folder);
  std::ofstream pixels(out, std::ios::binary), names(out + ".txt");
  std::vector<uint8_t> square(size_t{3} * kSize * kSize);
  const DecodeOptions options{.mode = fast ? DecodeMode::fast : DecodeMode::exact, .target_size = kSize};
  for (const Item& item : dataset.items) {
    try {
      resize_image(decode_image(dataset.read_bytes(item), options, item.path), ResizeMode::stretch, kSize,
                   square.data());
    } catch (const InputError& error) {
      std::fprintf(stderr, "left out %s\n", error.what());
      continue;
    }
    pixels.write(reinterpret_cast<const char*>(square.data()), static_cast<std::streamsize>(square.size()));
    names << dataset.display_path(item) << "\n";
  }
  return pixels.flush() && names.flush() ? 0 : 1;
}

}  // namespace
}  // namespace cairn::data

int main(int count, char** arguments) {
  const bool fast = count == 4 && std::strcmp(arguments[2], "fast") == 0;
  if (count != 4 || (!fast && std::strcmp(arguments[2], "exact") != 0)) {
    std::fprintf(stderr, "usage: dump_pixels FOLDER fast|exact OUT\n");
    return 2;
  }
  try {
    return cairn::data::dump(arguments[1], fast, arguments[3]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dump_pixels: %s\n", error.what());
    return 1;
  }
}
