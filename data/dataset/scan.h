#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset/dataset.h"
#include "data/decode/decode.h"

namespace cairn::data {

struct ScanOptions {
  DecodeOptions decode;
  int workers = 0;  // threads; 0: one a core
  /// Called now and then with (done, all), from one thread at a time; may be empty.
  std::function<void(int64_t, int64_t)> progress;
  /// Called with every image that could be decoded, by its place in dataset.items before any is left out;
  /// from several threads at once; may be empty.
  std::function<void(int64_t item, std::span<const uint8_t> bytes, const Image& image)> visit;
  bool allow_empty_classes = false;  // and an empty set: for a report of what is wrong
};

struct DamagedFile {
  std::string path;
  std::string reason;
};

/// What reading every image once has shown.
struct Scan {
  std::vector<std::string> hashes;    // [items left], content hash
  std::vector<int64_t> kept;          // [items left], place in dataset.items before
  std::vector<DamagedFile> damaged;   // in path order
  std::vector<std::string> warnings;  // "left out PATH: reason", one for each damaged file, and their number
};

/// Reads, hashes and decodes every image in parallel, and takes those that fail out of `dataset`. Throws
/// InputError when a class, or everything, is left without an image.
Scan scan_dataset(Dataset& dataset, const ScanOptions& options);

}  // namespace cairn::data
