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

/// The last tensor of a file that write_summed_safetensors() wrote: the 128-bit XXH3 of every byte before it.
inline constexpr const char* kSumName = "xxh3_128";
/// As write_safetensors(), with the sum. Readers that do not know it see one more tensor. `before_replacing`
/// is called when all of the new file is on the disk and the old one still has its name.
void write_summed_safetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                              const Metadata& metadata, const std::function<void()>& before_replacing = {});
/// Throws InputError unless the sum at the end of the file is that of the bytes before it.
void check_sum(const std::string& path);

}  // namespace cairn::io
