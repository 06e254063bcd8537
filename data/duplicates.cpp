#include "data/duplicates.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <numbers>

#include "data/parallel.h"
#include "data/resize.h"
#include "data/union_find.h"

namespace cairn::data {
namespace {

constexpr int kSide = kLookSide, kPixels = kSide * kSide, kRoughSide = 8;
// The limits were chosen on the demo set (bench/data/duplicates_recall.cpp): the first two pass 0.5
// % of the pairs of different clip art and 99 % of altered copies; the last is where the copies begin.
constexpr int kMostHashBits = 24;
constexpr double kLeastRough = 0.7;
constexpr float kLeastCoarse = 0.9f;
constexpr float kLeastCorrelation = 0.97f;
constexpr double kFlatDeviation = 3;  // levels; below it noise of recompression is most of what there is

using Plane = std::array<float, kPixels>;

// Signs of the DCT-II's lowest 8 x 8 coefficients but for the constant one, against their median.
uint64_t frequency_hash(const Plane& luma) {
  static const auto cosines = [] {
    std::array<std::array<float, kSide>, 8> table{};
    for (int k = 0; k < 8; ++k) {
      for (int i = 0; i < kSide; ++i)
        table[k][i] = static_cast<float>(std::cos(std::numbers::pi * k * (2 * i + 1) / (2.0 * kSide)) *
                                         (k ? 1 : std::sqrt(0.5)));
    }
    return table;
  }();
  std::array<float, 64> frequencies{};
  for (int u = 0; u < 8; ++u) {
    std::array<float, kSide> column{};
    for (int y = 0; y < kSide; ++y) {
      for (int x = 0; x < kSide; ++x) column[x] += cosines[u][y] * luma[y * kSide + x];
    }
    for (int v = 0; v < 8; ++v) {
      for (int x = 0; x < kSide; ++x) frequencies[u * 8 + v] += cosines[v][x] * column[x];
    }
  }
  std::array<float, 63> sorted;
  std::copy(frequencies.begin() + 1, frequencies.end(), sorted.begin());
  std::nth_element(sorted.begin(), sorted.begin() + 31, sorted.end());
  uint64_t hash = 0;
  for (int i = 1; i < 64; ++i) hash |= uint64_t{frequencies[i] > sorted[31]} << i;
  return hash;
}

Plane blurred(const Plane& from, float sigma) {
  constexpr int kRadius = 4;
  std::array<float, 2 * kRadius + 1> kernel;
  float sum = 0;
  for (int i = -kRadius; i <= kRadius; ++i)
    sum += kernel[i + kRadius] = std::exp(-0.5f * static_cast<float>(i * i) / (sigma * sigma));
  for (float& k : kernel) k /= sum;
  Plane rows{}, result{};
  for (int y = 0; y < kSide; ++y) {
    for (int i = -kRadius; i <= kRadius; ++i) {
      const float* row = from.data() + std::clamp(y + i, 0, kSide - 1) * kSide;
      for (int x = 0; x < kSide; ++x) rows[y * kSide + x] += kernel[i + kRadius] * row[x];
    }
  }
  std::array<float, kSide + 2 * kRadius> padded;
  for (int y = 0; y < kSide; ++y) {
    const float* row = rows.data() + y * kSide;
    for (int i = 0; i < static_cast<int>(padded.size()); ++i)
      padded[i] = row[std::clamp(i - kRadius, 0, kSide - 1)];
    for (int i = 0; i <= 2 * kRadius; ++i) {
      for (int x = 0; x < kSide; ++x) result[y * kSide + x] += kernel[i] * padded[x + i];
    }
  }
  return result;
}

// Place of a pixel along one axis in -1 ... 1.
float coordinate(int i) { return static_cast<float>(2 * i) / (kSide - 1) - 1; }

// Where the pixels of one axis lie in the other picture: u' = (1 + stretch) u + shift.
struct AxisMap {
  float stretch = 0, shift = 0;
};

struct AxisPlaces {
  std::array<int, kSide> first;
  std::array<float, kSide> share;   // of the next pixel
  std::array<float, kSide> inside;  // 1 or 0: not beyond the other picture's edge by more than half a pixel
};

AxisPlaces places(const AxisMap& map) {
  AxisPlaces p;
  for (int i = 0; i < kSide; ++i) {
    const float u = coordinate(i) * (1 + map.stretch) + map.shift;
    const float at = std::clamp((u + 1) * (0.5f * (kSide - 1)), 0.0f, kSide - 1.001f);
    p.first[i] = static_cast<int>(at);
    p.share[i] = at - static_cast<float>(p.first[i]);
    p.inside[i] = std::abs(u) <= 1.04f ? 1.0f : 0.0f;
  }
  return p;
}

Plane sampled(const Plane& from, const AxisPlaces& px, const AxisPlaces& py) {
  Plane result;
  for (int y = 0; y < kSide; ++y) {
    const float* top = from.data() + py.first[y] * kSide;
    const float* bottom = top + kSide;
    const float fy = py.share[y];
    std::array<float, kSide> row;
    for (int x = 0; x < kSide; ++x) row[x] = top[x] + fy * (bottom[x] - top[x]);
    for (int x = 0; x < kSide; ++x)
      result[y * kSide + x] = row[px.first[x]] + px.share[x] * (row[px.first[x] + 1] - row[px.first[x]]);
  }
  return result;
}

// Solves the symmetric positive definite h q = b in place by Cholesky's factors.
constexpr int kUnknowns = 6;
using Matrix = std::array<std::array<double, kUnknowns>, kUnknowns>;
using Vector = std::array<double, kUnknowns>;

Vector solve(Matrix h, Vector b) {
  for (int j = 0; j < kUnknowns; ++j) {
    for (int k = 0; k < j; ++k) h[j][j] -= h[j][k] * h[j][k];
    h[j][j] = std::sqrt(std::max(h[j][j], 1e-9));
    for (int i = j + 1; i < kUnknowns; ++i) {
      for (int k = 0; k < j; ++k) h[i][j] -= h[i][k] * h[j][k];
      h[i][j] /= h[j][j];
    }
  }
  for (int i = 0; i < kUnknowns; ++i) {
    for (int k = 0; k < i; ++k) b[i] -= h[i][k] * b[k];
    b[i] /= h[i][i];
  }
  for (int i = kUnknowns - 1; i >= 0; --i) {
    for (int k = i + 1; k < kUnknowns; ++k) b[i] -= h[k][i] * b[k];
    b[i] /= h[i][i];
  }
  return b;
}

// Maps of both axes that lay b over a.
struct Overlay {
  AxisMap x, y;
};

// One step of Gauss and Newton: a(u, v) = gain b(u', v') + offset, linear in the changes of the maps, the
// gain and the offset.
void improve(const Plane& a, const Plane& b, Overlay& overlay) {
  const AxisPlaces px = places(overlay.x), py = places(overlay.y);
  const Plane w = sampled(b, px, py);
  constexpr float kSlope = 0.5f * (kSide - 1);  // a pixel is 1 / kSlope of the coordinate
  // Sums are kept a column of pixels, so that the loop over x has no sum across.
  constexpr int kTerms = kUnknowns + 1;
  std::array<std::array<float, kSide>, kTerms*(kTerms + 1) / 2> sums{};
  for (int y = 0; y < kSide; ++y) {
    const float* row = w.data() + y * kSide;
    const float* above = w.data() + std::max(y - 1, 0) * kSide;
    const float* below = w.data() + std::min(y + 1, kSide - 1) * kSide;
    const float y_step = y == 0 || y == kSide - 1 ? kSlope : kSlope / 2;
    std::array<std::array<float, kSide>, kTerms> terms;
    for (int x = 0; x < kSide; ++x) {
      const float inside = px.inside[x] * py.inside[y];
      const float gx = (row[std::min(x + 1, kSide - 1)] - row[std::max(x - 1, 0)]) *
                       (x == 0 || x == kSide - 1 ? kSlope : kSlope / 2) * inside;
      const float gy = (below[x] - above[x]) * y_step * inside;
      terms[0][x] = gx * coordinate(x);
      terms[1][x] = gx;
      terms[2][x] = gy * coordinate(y);
      terms[3][x] = gy;
      terms[4][x] = (row[x] - 128) * inside;
      terms[5][x] = inside;
      terms[6][x] = (a[y * kSide + x] - 128) * inside;
    }
    int k = 0;
    for (int i = 0; i < kTerms; ++i) {
      for (int j = 0; j <= i; ++j, ++k) {
        for (int x = 0; x < kSide; ++x) sums[k][x] += terms[i][x] * terms[j][x];
      }
    }
  }
  Matrix h{};
  Vector right{};
  int k = 0;
  for (int i = 0; i < kTerms; ++i) {
    for (int j = 0; j <= i; ++j, ++k) {
      double sum = 0;
      for (const float s : sums[k]) sum += static_cast<double>(s);
      if (i == kUnknowns) {
        if (j < kUnknowns) right[j] = sum;
      } else {
        h[i][j] = h[j][i] = sum;
      }
    }
  }
  // A picture with no slopes along one axis leaves its map alone.
  for (int i = 0; i < kUnknowns; ++i) h[i][i] += i < 4 ? 300 : 0.01;
  const Vector q = solve(h, right);
  const double gain = std::max(q[4], 0.3);
  const auto change = [&](float& value, double by) {
    value = std::clamp(value + static_cast<float>(std::clamp(by / gain, -0.06, 0.06)), -0.1f, 0.1f);
  };
  change(overlay.x.stretch, q[0]);
  change(overlay.x.shift, q[1]);
  change(overlay.y.stretch, q[2]);
  change(overlay.y.shift, q[3]);
}

// Correlation of a with what brightening b (gain, offset, cut off at white) makes of it.
float correlation(const Plane& a, const Plane& b, const Overlay& overlay) {
  const AxisPlaces px = places(overlay.x), py = places(overlay.y);
  Plane w = sampled(b, px, py);
  Plane inside;
  for (int i = 0; i < kPixels; ++i) inside[i] = px.inside[i % kSide] * py.inside[i / kSide];
  double n = 0, sa = 0, sw = 0, saw = 0, sww = 0;
  for (int i = 0; i < kPixels; ++i) {
    // White pixels of a say nothing of how much brighter it is.
    const auto weight = static_cast<double>(a[i] < 250 ? inside[i] : 0);
    const auto va = static_cast<double>(a[i]), vw = static_cast<double>(w[i]);
    n += weight;
    sa += weight * va;
    sw += weight * vw;
    saw += weight * va * vw;
    sww += weight * vw * vw;
  }
  const double spread = n * sww - sw * sw;
  double gain = spread > n * n ? (n * saw - sa * sw) / spread : 1;
  gain = std::clamp(gain, 0.5, 2.0);
  const double offset = n > 0 ? (sa - gain * sw) / n : 0;
  double m = 0, ma = 0, mw = 0, maa = 0, mww = 0, maw = 0;
  for (int i = 0; i < kPixels; ++i) {
    const auto weight = static_cast<double>(inside[i]), va = static_cast<double>(a[i]);
    const double vw = std::clamp(gain * static_cast<double>(w[i]) + offset, 0.0, 255.0);
    m += weight;
    ma += weight * va;
    mw += weight * vw;
    maa += weight * va * va;
    mww += weight * vw * vw;
    maw += weight * va * vw;
  }
  const double product = (m * maa - ma * ma) * (m * mww - mw * mw);
  return product > 0 ? static_cast<float>((m * maw - ma * mw) / std::sqrt(product)) : 0;
}

struct Blurred {
  Plane coarse, fine;
};

Blurred blur_both(const Look& look) {
  Plane plane;
  std::copy(look.luma.begin(), look.luma.end(), plane.begin());
  return {blurred(plane, 1.5f), blurred(plane, 0.7f)};
}

// Whether b, laid over a, is a. A crop finds all of itself in the whole picture, but not the other way round.
bool overlays(const Blurred& a, const Blurred& b) {
  Overlay overlay;
  for (int step = 0; step < 2; ++step) improve(a.coarse, b.coarse, overlay);
  if (correlation(a.coarse, b.coarse, overlay) < kLeastCoarse) return false;
  for (int step = 0; step < 2; ++step) improve(a.fine, b.fine, overlay);
  return correlation(a.fine, b.fine, overlay) >= kLeastCorrelation;
}

// What costs little and rules most pairs out.
bool may_be_alike(const Look& a, const Look& b) {
  if (std::popcount(a.hash ^ b.hash) > kMostHashBits || a.flat || b.flat) return false;
  int32_t sum = 0;
  for (int i = 0; i < 64; ++i) sum += a.rough[i] * b.rough[i];
  return sum > static_cast<int32_t>(kLeastRough * 127 * 127);
}

bool alike_in_full(const Look& a, const Look& b) {
  const Blurred x = blur_both(a), y = blur_both(b);
  return overlays(x, y) || overlays(y, x);
}

}  // namespace

Look make_look(const Image& image) {
  std::array<uint8_t, kPixels * 3> rgb;
  resize_bilinear(image.rgb.data(), image.width, image.height, 0, 0, static_cast<float>(image.width),
                  static_cast<float>(image.height), rgb.data(), kSide, kSide);
  Look look;
  Plane luma;
  double sum = 0, squares = 0;
  for (int i = 0; i < kPixels; ++i) {
    // ITU-R 601-2, as in augment_ops.cpp.
    const uint32_t value =
        (rgb[3 * i] * 19595u + rgb[3 * i + 1] * 38470u + rgb[3 * i + 2] * 7471u + 0x8000u) >> 16;
    look.luma[i] = static_cast<uint8_t>(value);
    luma[i] = static_cast<float>(value);
    sum += value;
    squares += value * value;
  }
  const double mean = sum / kPixels;
  look.flat = squares / kPixels - mean * mean < kFlatDeviation * kFlatDeviation;
  look.hash = frequency_hash(luma);
  constexpr int kCell = kSide / kRoughSide;
  std::array<double, 64> rough{};
  for (int i = 0; i < kPixels; ++i)
    rough[i / kSide / kCell * kRoughSide + i % kSide / kCell] += static_cast<double>(luma[i]) - mean;
  double length = 0;
  for (const double v : rough) length += v * v;
  for (int i = 0; i < 64 && length > 0; ++i)
    look.rough[i] = static_cast<int8_t>(std::lround(127 * rough[i] / std::sqrt(length)));
  return look;
}

bool looks_alike(const Look& a, const Look& b) { return may_be_alike(a, b) && alike_in_full(a, b); }

std::vector<std::vector<int64_t>> find_look_alikes(std::span<const Look> looks, int workers) {
  const auto n = static_cast<int64_t>(looks.size());
  UnionFind joined(looks.size());
  std::mutex mutex;
  const auto are_joined = [&](int64_t i, int64_t j) {
    const std::lock_guard lock(mutex);
    return joined.find(i) == joined.find(j);
  };
  // Which pairs are found joined already depends on timing; the groups do not.
  parallel_for(n, workers, [&](int64_t i) {
    for (int64_t j = i + 1; j < n; ++j) {
      if (!may_be_alike(looks[i], looks[j]) || are_joined(i, j) || !alike_in_full(looks[i], looks[j]))
        continue;
      const std::lock_guard lock(mutex);
      joined.join(i, j);
    }
  });
  std::map<int64_t, std::vector<int64_t>> by_root;
  for (int64_t i = 0; i < n; ++i) by_root[joined.find(i)].push_back(i);
  std::vector<std::vector<int64_t>> groups;
  for (auto& [root, members] : by_root) {
    if (members.size() > 1) groups.push_back(std::move(members));
  }
  return groups;
}

std::vector<std::pair<int64_t, int64_t>> joining_pairs(const std::vector<std::vector<int64_t>>& groups) {
  std::vector<std::pair<int64_t, int64_t>> pairs;
  for (const std::vector<int64_t>& group : groups) {
    for (size_t i = 1; i < group.size(); ++i) pairs.emplace_back(group[0], group[i]);
  }
  return pairs;
}

}  // namespace cairn::data
