#include "engine/io/stored.h"

#include <cstring>

#include "kernels/error.h"

namespace cairn::io {
namespace {

template <class T>
std::vector<float> widen(const std::vector<std::uint8_t>& bytes) {
  std::vector<float> values(bytes.size() / sizeof(T));
  for (std::size_t i = 0; i < values.size(); ++i) {
    T v;
    std::memcpy(&v, bytes.data() + i * sizeof(T), sizeof(T));
    values[i] = static_cast<float>(v);
  }
  return values;
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
  switch (tensor.dtype) {
    case DType::f32:
      return widen<float>(tensor.read());
    case DType::f64:
      return widen<double>(tensor.read());
    case DType::bf16:
      return widen<BFloat16>(tensor.read());
    case DType::f16:
      return widen<Float16>(tensor.read());
    default:
      throw InputError(tensor.name + " is " + name_of(tensor.dtype) + ", expected a floating dtype");
  }
}

}  // namespace cairn::io
