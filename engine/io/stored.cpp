#include "engine/io/stored.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "kernels/error.h"

namespace cairn::io {
namespace {

/// Calls f(T()) with the C++ type of a floating dtype.
template <class F>
void with_floating(const StoredTensor& tensor, F&& f) {
  if (tensor.dtype == DType::f32) return f(float());
  if (tensor.dtype == DType::f64) return f(double());
  if (tensor.dtype == DType::bf16) return f(BFloat16());
  if (tensor.dtype == DType::f16) return f(Float16());
  throw InputError(tensor.name + " is " + name_of(tensor.dtype) + ", expected a floating dtype");
}

template <class T>
void widen(const std::uint8_t* bytes, std::span<float> values) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    T v;
    std::memcpy(&v, bytes + i * sizeof(T), sizeof(T));
    values[i] = static_cast<float>(v);
  }
}

}  // namespace

std::string in_quotes(std::string_view name) {
  constexpr std::size_t kMost = 100;
  std::string text(name.substr(0, kMost));
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  return "'" + text + (name.size() > kMost ? "...'" : "'");
}

std::vector<float> read_floats(const StoredTensor& tensor) {
  std::vector<float> values;
  with_floating(tensor, [&]<class T>(T) {
    const std::vector<std::uint8_t> bytes = tensor.read();
    values.resize(bytes.size() / sizeof(T));
    widen<T>(bytes.data(), values);
  });
  return values;
}

void read_floats(const StoredTensor& tensor, std::int64_t first, std::span<float> values) {
  with_floating(tensor, [&]<class T>(T) {
    const std::uint64_t begin = static_cast<std::uint64_t>(first) * sizeof(T);
    if constexpr (std::is_same_v<T, float>) {
      tensor.read_part(begin, {reinterpret_cast<std::uint8_t*>(values.data()), values.size_bytes()});
    } else {
      constexpr std::size_t kPiece = 4096;
      std::array<std::uint8_t, kPiece * sizeof(T)> bytes;
      for (std::size_t at = 0; at < values.size(); at += kPiece) {
        const std::size_t some = std::min(kPiece, values.size() - at);
        tensor.read_part(begin + at * sizeof(T), {bytes.data(), some * sizeof(T)});
        widen<T>(bytes.data(), values.subspan(at, some));
      }
    }
  });
}

}  // namespace cairn::io
