#pragma once
#include <cstdint>
#include <functional>
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
};

struct DamagedFile {
  std::string path;
  std::string reason;
};

/// What reading every image once has shown.
struct Scan {
  std::vector<std::string> hashes;    // [items left], content hash
  std::vector<DamagedFile> damaged;   // in path order
  std::vector<std::string> warnings;  // "left out PATH: reason", one for each damaged file, and their number
};

/// Reads, hashes and decodes every image in parallel, and takes those that fail out of `dataset`. Throws
/// InputError when a class, or everything, is left without an image.
Scan scan_dataset(Dataset& dataset, const ScanOptions& options);

}  // namespace cairn::data
