#include "data/decode/png_filter.h"

#include <algorithm>
#include <cstdlib>

namespace cairn::data {

namespace {

// The step is a template parameter so that the left and the upper left pixel stay in registers.
template <int kStep>
void undo_sub(uint8_t* row, int64_t n) {
  for (int64_t i = kStep; i < n; ++i) row[i] = static_cast<uint8_t>(row[i] + row[i - kStep]);
}

template <int kStep>
void undo_average(uint8_t* row, const uint8_t* above, int64_t n) {
  uint32_t left[kStep] = {};
  for (int64_t i = 0; i + kStep <= n; i += kStep) {
    for (int c = 0; c < kStep; ++c) {
      left[c] = (row[i + c] + ((left[c] + above[i + c]) >> 1)) & 0xFF;
      row[i + c] = static_cast<uint8_t>(left[c]);
    }
  }
}

template <int kStep>
void undo_paeth(uint8_t* row, const uint8_t* above, int64_t n) {
  int left[kStep] = {}, upper_left[kStep] = {};
  for (int64_t i = 0; i + kStep <= n; i += kStep) {
    for (int c = 0; c < kStep; ++c) {
      const int a = left[c], b = above[i + c], corner = upper_left[c];
      const int distance_a = std::abs(b - corner), distance_b = std::abs(a - corner);
      const int distance_c = std::abs(a + b - 2 * corner);
      const int of_b_c = distance_b <= distance_c ? b : corner;
      const int predicted = distance_a <= distance_b && distance_a <= distance_c ? a : of_b_c;
      upper_left[c] = b;
      left[c] = (row[i + c] + predicted) & 0xFF;
      row[i + c] = static_cast<uint8_t>(left[c]);
    }
  }
}

template <int kStep>
bool undo(int filter, uint8_t* row, const uint8_t* above, int64_t n) {
  switch (filter) {
    case 0:
      return true;
    case 1:
      undo_sub<kStep>(row, n);
      return true;
    case 2:
      for (int64_t i = 0; i < n; ++i) row[i] = static_cast<uint8_t>(row[i] + above[i]);
      return true;
    case 3:
      undo_average<kStep>(row, above, n);
      return true;
    case 4:
      undo_paeth<kStep>(row, above, n);
      return true;
    default:
      return false;
  }
}

}  // namespace

bool undo_png_filter(int filter, uint8_t* row, const uint8_t* above, int64_t n, int step) {
  switch (step) {
    case 1:
      return undo<1>(filter, row, above, n);
    case 2:
      return undo<2>(filter, row, above, n);
    case 3:
      return undo<3>(filter, row, above, n);
    case 4:
      return undo<4>(filter, row, above, n);
    case 6:
      return undo<6>(filter, row, above, n);
    default:
      return undo<8>(filter, row, above, n);
  }
}

}  // namespace cairn::data
