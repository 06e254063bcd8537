#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "data/augment.h"
#include "data/dataset/dataset.h"
#include "data/decode/decode.h"
#include "data/resize.h"
#include "data/sampler.h"

namespace cairn::data {

struct LoaderOptions {
  std::vector<int64_t> items;  // indices into dataset.items, e.g. part_items(); repeats allowed
  SamplerOptions sampler;
  int image_size = 224;
  ResizeMode resize = ResizeMode::stretch;
  DecodeOptions decode;  // target_size is filled in by the loader
  Augment augment = Augment::none;
  int workers = 0;   // threads; 0: one a core
  int prefetch = 4;  // batch buffers; at least one more than the batches that the caller holds at once
  int64_t cache_bytes = -1;  // of decoded images kept in memory; -1: default_cache_bytes(); 0: none
  /// Keep decoded images in this file instead, for later runs too; see CacheFile. Empty: in memory.
  std::string cache_file;
  /// Memory of a batch, e.g. pinned; empty: plain memory. Called prefetch times, by the constructor.
  std::function<std::shared_ptr<uint8_t[]>(size_t bytes)> allocate;
  /// Items whose pixels the caller has already: what a batch holds in their place is undefined. Called from
  /// the workers. Only where every image is the same each time, without augmentation.
  std::function<bool(int64_t item)> without_pixels;
};

/// A batch as the loader hands it out. The pixels stay until the Batch is destroyed or given to next() again:
/// a caller that is still copying one batch takes the next into another Batch.
struct Batch {
  int64_t size = 0;
  int64_t global_size = 0;           // of all processes' parts of the batch
  const uint8_t* images = nullptr;   // [size, S, S, 3] RGB
  std::vector<int32_t> labels;       // [size]
  std::vector<int32_t> labels2;      // [size] partner's label where images are mixed; else empty
  std::vector<float> lambda;         // [size] share of labels, the rest is labels2's; else empty
  std::vector<int64_t> indices;      // [size] into dataset.items
  std::vector<int64_t> positions;    // [size] in the epoch
  std::shared_ptr<const void> hold;  // keeps the buffer
};

/// Reads, decodes, resizes, caches and augments batches on worker threads, ahead of the caller and in order.
/// What a batch holds depends on seed, epoch and position alone, never on the number of threads.
class Loader {
 public:
  /// dataset must outlive the loader. Throws InputError for options that make no sense.
  Loader(const Dataset& dataset, LoaderOptions options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Drops what is under way and begins an epoch, at a batch. Work starts at once: calling it before a
  /// validation pass has the next epoch's first batches ready afterwards.
  void start_epoch(int64_t epoch, int64_t first_batch = 0);
  /// The next batch of the epoch; false at its end. Throws what reading an image threw, naming the file:
  /// always for the first such image in order, whatever the threads do.
  bool next(Batch& batch);

  int64_t batches_per_epoch() const;
  const Sampler& sampler() const;
  /// Time that next() has waited, in all, and images delivered.
  double wait_seconds() const;
  int64_t images_delivered() const;
  /// Images that the cache can hold, of how many different ones.
  int64_t cache_capacity() const;
  int64_t distinct_images() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace cairn::data
