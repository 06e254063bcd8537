#include "apps/report/tfevents.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/error.h"

namespace cairn::report {
namespace {

// ---- protobuf's wire format (protobuf.dev/programming-guides/encoding) ----

void put_varint(std::string& out, std::uint64_t v) {
  for (; v >= 0x80; v >>= 7) out.push_back(static_cast<char>(v | 0x80));
  out.push_back(static_cast<char>(v));
}
enum WireType : std::uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };
void put_key(std::string& out, std::uint64_t field, WireType type) { put_varint(out, field << 3 | type); }
template <class T>
void put_raw(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}
void put_double(std::string& out, std::uint64_t field, double v) {
  put_key(out, field, kFixed64);
  put_raw(out, v);
}
void put_float(std::string& out, std::uint64_t field, float v) {
  put_key(out, field, kFixed32);
  put_raw(out, v);
}
void put_int(std::string& out, std::uint64_t field, std::int64_t v) {
  put_key(out, field, kVarint);
  put_varint(out, static_cast<std::uint64_t>(v));
}
void put_bytes(std::string& out, std::uint64_t field, const std::string& v) {
  put_key(out, field, kBytes);
  put_varint(out, v.size());
  out += v;
}
void put_doubles(std::string& out, std::uint64_t field, const std::vector<double>& values) {
  std::string packed;
  for (const double v : values) put_raw(packed, v);
  put_bytes(out, field, packed);
}

/// Event{wall_time = 1, step = 2, summary = 5}; Summary{value = 1}; `value` is an encoded Summary.Value.
std::string event_of(double wall_time, std::int64_t step, const std::string& value) {
  std::string summary;
  put_bytes(summary, 1, value);
  std::string event;
  put_double(event, 1, wall_time);
  put_int(event, 2, step);
  put_bytes(event, 5, summary);
  return event;
}

/// TFRecord stores checksums rotated and offset, so that a checksum of checksums is no trivial value.
std::uint32_t masked_crc(const std::string& bytes) {
  const std::uint32_t crc = crc32c({reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()});
  return std::rotr(crc, 15) + 0xA282EAD8u;
}

/// TensorBoard's bucket limits: +-1e-12 * 1.1^k, up to 1e20.
const std::vector<double>& bucket_limits() {
  static const std::vector<double> limits = [] {
    std::vector<double> positive;
    for (double v = 1e-12; v < 1e20; v *= 1.1) positive.push_back(v);
    std::vector<double> all;
    for (auto it = positive.rbegin(); it != positive.rend(); ++it) all.push_back(-*it);
    all.push_back(0);
    all.insert(all.end(), positive.begin(), positive.end());
    all.push_back(std::numeric_limits<double>::max());
    return all;
  }();
  return limits;
}

}  // namespace

std::uint32_t crc32c(std::span<const std::uint8_t> bytes) {
  static const std::array<std::uint32_t, 256> table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t c = i;
      for (int bit = 0; bit < 8; ++bit) c = c >> 1 ^ (c & 1 ? 0x82F63B78u : 0u);
      t[i] = c;
    }
    return t;
  }();
  std::uint32_t crc = ~0u;
  for (const std::uint8_t b : bytes) crc = crc >> 8 ^ table[(crc ^ b) & 0xFF];
  return ~crc;
}

EventWriter::EventWriter(const std::string& folder, double wall_time, const std::string& name)
    : path_(folder + "/events.out.tfevents." + std::to_string(static_cast<std::int64_t>(wall_time)) + "." +
            name),
      file_(std::fopen(path_.c_str(), "wb")) {
  if (!file_) throw InputError(path_ + ": cannot be written: " + std::strerror(errno));
  std::string event;
  put_double(event, 1, wall_time);
  put_bytes(event, 3, "brain.Event:2");  // file_version
  record(event);
}

void EventWriter::record(const std::string& event) {
  std::string length;
  put_raw<std::uint64_t>(length, event.size());
  std::string framed = length;
  put_raw(framed, masked_crc(length));
  framed += event;
  put_raw(framed, masked_crc(event));
  if (std::fwrite(framed.data(), 1, framed.size(), file_.get()) != framed.size() ||
      std::fflush(file_.get()) != 0)
    throw Error(path_ + ": cannot be written: " + std::strerror(errno));
}

// Summary.Value{tag = 1, simple_value = 2, image = 4, histo = 5}
void EventWriter::scalar(const std::string& tag, std::int64_t step, double wall_time, float value) {
  std::string v;
  put_bytes(v, 1, tag);
  put_float(v, 2, value);
  record(event_of(wall_time, step, v));
}

// Summary.Image{height = 1, width = 2, colorspace = 3, encoded_image_string = 4}
void EventWriter::image(const std::string& tag, std::int64_t step, double wall_time, int width, int height,
                        std::span<const std::uint8_t> encoded) {
  std::string image;
  put_int(image, 1, height);
  put_int(image, 2, width);
  put_int(image, 3, 3);
  put_bytes(image, 4, std::string(reinterpret_cast<const char*>(encoded.data()), encoded.size()));
  std::string v;
  put_bytes(v, 1, tag);
  put_bytes(v, 4, image);
  record(event_of(wall_time, step, v));
}

// HistogramProto{min = 1, max = 2, num = 3, sum = 4, sum_squares = 5, bucket_limit = 6, bucket = 7}
void EventWriter::histogram(const std::string& tag, std::int64_t step, double wall_time,
                            std::span<const float> values) {
  const std::vector<double>& limits = bucket_limits();
  std::vector<double> counts(limits.size(), 0.0);
  double low = std::numeric_limits<double>::infinity(), high = -low, sum = 0, squares = 0, n = 0;
  for (const float f : values) {
    if (!std::isfinite(f)) continue;  // TensorBoard shows no bucket for them
    const double d = f;
    low = std::min(low, d);
    high = std::max(high, d);
    sum += d;
    squares += d * d;
    ++n;
    ++counts[static_cast<std::size_t>(std::upper_bound(limits.begin(), limits.end() - 1, d) -
                                      limits.begin())];
  }
  if (n == 0) return;
  // Only the range that holds values, with its neighbours.
  const auto filled = [](double c) { return c > 0; };
  const auto first = std::find_if(counts.begin(), counts.end(), filled) - counts.begin();
  const auto last = counts.rend() - std::find_if(counts.rbegin(), counts.rend(), filled);
  std::string histo;
  put_double(histo, 1, low);
  put_double(histo, 2, high);
  put_double(histo, 3, n);
  put_double(histo, 4, sum);
  put_double(histo, 5, squares);
  put_doubles(histo, 6, {limits.begin() + first, limits.begin() + last});
  put_doubles(histo, 7, {counts.begin() + first, counts.begin() + last});
  std::string v;
  put_bytes(v, 1, tag);
  put_bytes(v, 5, histo);
  record(event_of(wall_time, step, v));
}

}  // namespace cairn::report
