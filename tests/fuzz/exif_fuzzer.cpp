// The EXIF reader on any bytes: an orientation from 1 to 8.
#include <cstdlib>

#include "data/exif.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const int orientation = cairn::data::exif_orientation({data, size});
  if (orientation < 1 || orientation > 8) std::abort();
  cairn::data::Image image{3, 2, std::vector<uint8_t>(18)};
  image = cairn::data::apply_orientation(std::move(image), orientation);
  if (image.width * image.height != 6 || image.rgb.size() != 18) std::abort();
  return 0;
}
