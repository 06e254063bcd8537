#pragma once
#include <cstring>
#include <string>

#include "engine/io/safetensors.h"
#include "engine/nn/layout.h"

namespace cairn::io {

inline std::vector<std::uint8_t> bytes_of(const std::vector<float>& values) {
  std::vector<std::uint8_t> bytes(values.size() * sizeof(float));
  if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

/// An fp32 tensor of a module as files have it: PyTorch's axis order. Keeps the tensor until it is written.
inline TensorToWrite to_write(const nn::NamedTensor& t, const std::string& prefix = {}) {
  return {
      prefix + t.name, DType::f32, nn::file_shape(t.tensor.shape(), t.layout), [t] {
        return bytes_of(nn::to_file_order<float>(t.tensor.to_vector<float>(), t.tensor.shape(), t.layout));
      }};
}

}  // namespace cairn::io
