#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/io/stored.h"

/// The safetensors format: 8 bytes length of the header (little-endian), the header (JSON: name -> dtype,
/// shape, data_offsets; __metadata__: text to text), then the tensors, without gaps.
namespace cairn::io {

/// Reads and checks the header: its length against the file's, every dtype, shape and range, and that the
/// ranges cover the data without overlap or hole. Throws InputError naming file and tensor. dtypes: F32, F64,
/// F16, BF16, U8, I32, I64; up to four axes.
StoredTensors open_safetensors(const std::string& path);

struct TensorToWrite {
  std::string name;
  DType dtype = DType::f32;
  Shape shape;
  /// Called once, while writing: so that only one tensor at a time is copied.
  std::function<std::vector<std::uint8_t>()> bytes;
};
/// Replaces the file in one step. Tensors of wider elements come first, so that each is aligned to its own;
/// else the order is kept. Throws Error naming the file where it cannot be written.
void write_safetensors(const std::string& path, const std::vector<TensorToWrite>& tensors,
                       const Metadata& metadata = {});

}  // namespace cairn::io
