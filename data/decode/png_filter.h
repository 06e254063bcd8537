#pragma once
#include <cstdint>

namespace cairn::data {

/// Undoes a PNG row filter (0 none, 1 sub, 2 up, 3 average, 4 Paeth) in place. row, above: [n]; above is
/// zeros for the first row. step: bytes of a whole pixel (1, 2, 3, 4, 6 or 8). False for an unknown filter.
bool undo_png_filter(int filter, uint8_t* row, const uint8_t* above, int64_t n, int step);

}  // namespace cairn::data
