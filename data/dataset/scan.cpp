#include "data/dataset/scan.h"

#include <mutex>

#include "data/csv.h"
#include "data/hash.h"
#include "data/parallel.h"
#include "kernels/error.h"

namespace cairn::data {

Scan scan_dataset(Dataset& dataset, const ScanOptions& options) {
  const auto n = static_cast<int64_t>(dataset.items.size());
  std::vector<std::string> hashes(n), reasons(n);
  std::mutex mutex;
  int64_t done = 0;
  parallel_for(n, options.workers, [&](int64_t i) {
    const Item& item = dataset.items[i];
    try {
      const std::vector<uint8_t> bytes = dataset.read_bytes(item);
      hashes[i] = content_hash(bytes);
      const Image image = decode_image(bytes, options.decode, dataset.display_path(item));
      if (options.visit) options.visit(i, bytes, image);
    } catch (const ImageError& error) {
      reasons[i] = error.reason();
    } catch (const Error& error) {  // memory running out is no damage: it ends the scan
      reasons[i] = error.what();
    }
    if (options.progress) {
      const std::lock_guard lock(mutex);
      options.progress(++done, n);
    }
  });

  Scan scan;
  std::vector<Item> kept;
  for (int64_t i = 0; i < n; ++i) {
    if (reasons[i].empty()) {
      kept.push_back(std::move(dataset.items[i]));
      scan.kept.push_back(i);
      scan.hashes.push_back(std::move(hashes[i]));
    } else {
      scan.warnings.push_back("left out " + printable(dataset.items[i].path) + ": " + printable(reasons[i]));
      scan.damaged.push_back({dataset.items[i].path, reasons[i]});
    }
  }
  dataset.items = std::move(kept);
  if (scan.damaged.empty()) return scan;

  const std::string left_out = std::to_string(scan.damaged.size()) + " of " + std::to_string(n) + " images";
  scan.warnings.push_back(left_out + " could not be read and were left out");
  if (options.allow_empty_classes) return scan;
  const std::string first = scan.damaged[0].path + ": " + scan.damaged[0].reason;
  if (dataset.items.empty()) {
    throw InputError(printable(dataset.root) + ": no image could be read; the first: " + printable(first));
  }
  const std::vector<int64_t> counts = dataset.class_counts();
  for (size_t c = 0; c < counts.size(); ++c) {
    if (counts[c] == 0) {
      throw InputError("class '" + printable(dataset.classes[c]) + "' has no image that can be read (" +
                       left_out + " could not; the first: " + printable(first) + ")");
    }
  }
  return scan;
}

}  // namespace cairn::data
