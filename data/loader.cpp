#include "data/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <unordered_map>

#include "data/cache.h"
#include "data/cache_file.h"
#include "data/hash.h"
#include "data/parallel.h"
#include "kernels/error.h"

namespace cairn::data {
namespace {

std::vector<int32_t> labels_of(const Dataset& dataset, const std::vector<int64_t>& items) {
  std::vector<int32_t> labels;
  labels.reserve(items.size());
  for (const int64_t item : items) {
    if (item < 0 || item >= static_cast<int64_t>(dataset.items.size())) {
      throw Error("the loader was given item " + std::to_string(item) + " of " +
                  std::to_string(dataset.items.size()));
    }
    labels.push_back(dataset.items[item].label);
  }
  return labels;
}

// What decides the pixels of a cached image beside its file.
std::string cache_key(const LoaderOptions& o, int source_size) {
  return "decoder " + decoder_version() + "\nsize " + std::to_string(source_size) + "\nresize " +
         std::to_string(static_cast<int>(o.resize)) + "\ndecode " +
         std::to_string(static_cast<int>(o.decode.mode)) + " " + std::to_string(o.decode.apply_exif);
}

// A batch buffer and what becomes of it. Owned by the loader's state, changed under its mutex; a worker that
// has taken a unit writes that unit's pixels and labels without it.
struct Slot {
  enum class Use : uint8_t { free, filling, held };  // held: by the caller
  Use use = Use::free;
  int64_t batch = -1;
  int64_t size = 0;
  int64_t units = 0;  // pieces of work
  int64_t units_taken = 0;
  int64_t units_done = 0;
  int64_t error_unit = -1;
  std::exception_ptr error;
  std::shared_ptr<uint8_t[]> pixels;
  std::vector<int32_t> labels, labels2;
  std::vector<float> lambda;
  std::vector<int64_t> indices, positions;
  bool ready() const { return units_done == units; }
};

}  // namespace

struct Loader::State {
  State(const Dataset& set, LoaderOptions given);
  void work();
  Slot* take_unit(int64_t& unit);  // mutex held
  void fill_unit(Slot& slot, int64_t unit, std::vector<uint8_t>& source);
  void fill_image(const Sampler::Pick& pick, const AugmentKey& key, uint8_t* dst,
                  std::vector<uint8_t>& source);
  void decode_to(int64_t item, uint8_t* dst) const;
  void decode_to(int64_t item, std::span<const uint8_t> bytes, uint8_t* dst) const;
  const uint8_t* find_in_file(int64_t item, int64_t place);
  void stop();

  const Dataset& dataset;
  LoaderOptions options;
  Sampler sampler;
  int source_size;
  int64_t images_per_unit;
  std::unordered_map<int64_t, int64_t> cache_slot;  // of each different item
  std::unique_ptr<ImageCache> cache;
  std::unique_ptr<CacheFile> file;
  std::unique_ptr<std::atomic<const uint8_t*>[]> in_file;  // [distinct images], null: not looked for yet

  std::mutex mutex;
  std::condition_variable work_ready;   // for workers
  std::condition_variable batch_ready;  // for the caller
  std::vector<Slot> slots;
  int64_t epoch = 0;
  int64_t next_opened = 0;     // batch that a free slot gets next
  int64_t next_delivered = 0;  // batch that next() returns next
  int64_t end = 0;             // one past the last batch to open
  int64_t in_flight = 0;       // units that workers are at
  bool stopping = false;
  std::exception_ptr failure;
  double wait_seconds = 0;
  int64_t delivered = 0;
  std::vector<std::thread> threads;
};

Loader::State::State(const Dataset& set, LoaderOptions given)
    : dataset(set),
      options(std::move(given)),
      sampler(options.items, labels_of(set, options.items), static_cast<int>(set.classes.size()),
              options.sampler),
      // The two images of a pair that is mixed are one piece of work.
      images_per_unit(augment_mixes(options.augment) ? 2 : 1) {
  if (options.image_size < 1 || options.image_size > 4096)
    throw InputError("the image size must lie in 1 … 4096");
  if (options.prefetch < 1) throw InputError("the loader needs at least one batch buffer");
  if (options.without_pixels && options.augment != Augment::none)
    throw InputError("pixels can be left out only where images are not augmented");
  source_size = augment_source_size(options.augment, options.image_size);
  options.decode.target_size = source_size;
  std::vector<int64_t> distinct = options.items;
  std::sort(distinct.begin(), distinct.end());
  distinct.erase(std::unique(distinct.begin(), distinct.end()), distinct.end());
  for (size_t i = 0; i < distinct.size(); ++i) cache_slot[distinct[i]] = static_cast<int64_t>(i);
  const int64_t budget = options.cache_bytes < 0 ? default_cache_bytes() : options.cache_bytes;
  const auto image_bytes = static_cast<size_t>(source_size) * source_size * 3;
  const auto images = static_cast<int64_t>(distinct.size());
  if (!options.cache_file.empty()) {
    file =
        std::make_unique<CacheFile>(options.cache_file, cache_key(options, source_size), images, image_bytes);
    in_file = std::make_unique<std::atomic<const uint8_t*>[]>(distinct.size());
  }
  cache = std::make_unique<ImageCache>(images, image_bytes, file ? 0 : budget);

  const int64_t local = sampler.local_batch_size(0);
  const size_t bytes = static_cast<size_t>(local) * options.image_size * options.image_size * 3;
  slots.resize(options.prefetch);
  for (Slot& slot : slots) {
    slot.pixels = options.allocate ? options.allocate(bytes) : std::make_shared<uint8_t[]>(bytes);
    if (!slot.pixels) throw Error("no memory for a batch buffer of " + std::to_string(bytes) + " bytes");
    slot.labels.resize(local);
    slot.indices.resize(local);
    slot.positions.resize(local);
    if (images_per_unit == 2) {
      slot.labels2.resize(local);
      slot.lambda.resize(local);
    }
  }
}

void Loader::State::decode_to(int64_t item, std::span<const uint8_t> bytes, uint8_t* dst) const {
  const Image image = decode_image(bytes, options.decode, dataset.display_path(dataset.items[item]));
  resize_image(image, options.resize, source_size, dst);
}

void Loader::State::decode_to(int64_t item, uint8_t* dst) const {
  decode_to(item, dataset.read_bytes(dataset.items[item]), dst);
}

// The image in the cache file, made if need be; null where the file has no room. The image's own file is read
// once a process, so that a changed one is noticed.
const uint8_t* Loader::State::find_in_file(int64_t item, int64_t place) {
  const uint8_t* pixels = in_file[place].load(std::memory_order_acquire);
  if (pixels) return pixels;
  const std::vector<uint8_t> bytes = dataset.read_bytes(dataset.items[item]);
  pixels = file->get(content_hash(bytes), [&](uint8_t* dst) { decode_to(item, bytes, dst); });
  in_file[place].store(pixels, std::memory_order_release);
  return pixels;
}

void Loader::State::fill_image(const Sampler::Pick& pick, const AugmentKey& key, uint8_t* dst,
                               std::vector<uint8_t>& source) {
  const size_t bytes = static_cast<size_t>(source_size) * source_size * 3;
  const int64_t place = cache_slot.at(pick.item);
  const uint8_t* pixels = file ? find_in_file(pick.item, place) : cache->find(place);
  if (!pixels) {
    uint8_t* kept = cache->begin_fill(place);
    if (kept) {
      try {
        decode_to(pick.item, kept);
      } catch (...) {
        cache->abandoned(place);
        throw;
      }
      cache->filled(place);
      pixels = kept;
    } else if (options.augment == Augment::none) {
      decode_to(pick.item, dst);  // straight into the batch
      return;
    } else {
      source.resize(bytes);
      decode_to(pick.item, source.data());
      pixels = source.data();
    }
  }
  augment_image(options.augment, pixels, dst, options.image_size, key);
}

void Loader::State::fill_unit(Slot& slot, int64_t unit, std::vector<uint8_t>& source) {
  const size_t image_bytes = static_cast<size_t>(options.image_size) * options.image_size * 3;
  const int64_t begin = unit * images_per_unit, stop_at = std::min(begin + images_per_unit, slot.size);
  const int64_t first_position = sampler.first_position(slot.batch);
  for (int64_t i = begin; i < stop_at; ++i) {
    const int64_t position = first_position + i;
    const Sampler::Pick pick = sampler.pick(epoch, position);
    slot.labels[i] = pick.label;
    slot.indices[i] = pick.item;
    slot.positions[i] = position;
    if (!options.without_pixels || !options.without_pixels(pick.item))
      fill_image(pick, {options.sampler.seed, epoch, position}, slot.pixels.get() + i * image_bytes, source);
    if (images_per_unit == 2) {
      slot.labels2[i] = pick.label;
      slot.lambda[i] = 1;
    }
  }
  if (stop_at - begin == 2) {
    uint8_t* first = slot.pixels.get() + begin * image_bytes;
    const Mix mix = mix_pair(first, first + image_bytes, options.image_size,
                             {options.sampler.seed, epoch, first_position + begin});
    slot.labels2[begin] = slot.labels[begin + 1];
    slot.labels2[begin + 1] = slot.labels[begin];
    slot.lambda[begin] = slot.lambda[begin + 1] = mix.lambda;
  }
}

// The next piece of work: of the batch that is open, else of a new one if a buffer is free.
Slot* Loader::State::take_unit(int64_t& unit) {
  for (Slot& slot : slots) {
    if (slot.use == Slot::Use::filling && slot.batch == next_opened - 1 && slot.units_taken < slot.units) {
      unit = slot.units_taken++;
      return &slot;
    }
  }
  if (next_opened >= end) return nullptr;
  for (Slot& slot : slots) {
    if (slot.use != Slot::Use::free) continue;
    slot.use = Slot::Use::filling;
    slot.batch = next_opened++;
    slot.size = sampler.local_batch_size(slot.batch);
    // A process whose slice of the last batch is empty still gets it, as one piece of no work.
    slot.units = std::max<int64_t>(1, (slot.size + images_per_unit - 1) / images_per_unit);
    slot.units_done = 0;
    slot.error_unit = -1;
    slot.error = nullptr;
    unit = 0;
    slot.units_taken = 1;
    return &slot;
  }
  return nullptr;
}

void Loader::State::work() {
  std::vector<uint8_t> source;
  std::unique_lock lock(mutex);
  while (true) {
    if (stopping) return;
    int64_t unit = 0;
    Slot* slot = take_unit(unit);
    if (!slot) {
      work_ready.wait(lock);
      continue;
    }
    ++in_flight;
    lock.unlock();
    std::exception_ptr error;
    try {
      fill_unit(*slot, unit, source);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    --in_flight;
    ++slot->units_done;
    if (error && (slot->error_unit < 0 || unit < slot->error_unit)) {
      slot->error_unit = unit;
      slot->error = error;
    }
    if (slot->ready() || in_flight == 0) batch_ready.notify_all();
  }
}

void Loader::State::stop() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
  }
  work_ready.notify_all();
  for (std::thread& thread : threads) thread.join();
}

Loader::Loader(const Dataset& dataset, LoaderOptions options)
    : state_(std::make_shared<State>(dataset, std::move(options))) {
  const int workers = resolve_workers(state_->options.workers);
  try {
    for (int i = 0; i < workers; ++i) state_->threads.emplace_back([state = state_.get()] { state->work(); });
  } catch (...) {
    state_->stop();
    throw;
  }
}

Loader::~Loader() { state_->stop(); }

void Loader::start_epoch(int64_t epoch, int64_t first_batch) {
  State& s = *state_;
  if (epoch < 0 || first_batch < 0 || first_batch > batches_per_epoch()) {
    throw Error("epoch " + std::to_string(epoch) + " has no batch " + std::to_string(first_batch));
  }
  std::unique_lock lock(s.mutex);
  s.end = 0;
  for (Slot& slot : s.slots)
    slot.units_taken = std::max(slot.units_taken, slot.units);  // nothing more of the old one
  s.batch_ready.wait(lock, [&] { return s.in_flight == 0; });
  for (Slot& slot : s.slots) {
    if (slot.use == Slot::Use::filling) slot.use = Slot::Use::free;
  }
  s.epoch = epoch;
  s.next_opened = s.next_delivered = first_batch;
  s.end = batches_per_epoch();
  s.failure = nullptr;
  lock.unlock();
  s.work_ready.notify_all();
}

bool Loader::next(Batch& batch) {
  batch = Batch();  // gives its buffer back, and must not hold the mutex for that
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  if (s.failure) std::rethrow_exception(s.failure);
  if (s.next_delivered >= s.end) return false;
  Slot* slot = nullptr;
  const auto is_ready = [&] {
    for (Slot& candidate : s.slots) {
      if (candidate.use == Slot::Use::filling && candidate.batch == s.next_delivered) slot = &candidate;
    }
    return slot && slot->ready();
  };
  if (!is_ready()) {
    if (std::all_of(s.slots.begin(), s.slots.end(), [](const Slot& x) { return x.use == Slot::Use::held; })) {
      throw Error("every batch buffer is held by the caller: raise LoaderOptions::prefetch");
    }
    const auto begin = std::chrono::steady_clock::now();
    s.batch_ready.wait(lock, is_ready);
    s.wait_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  ++s.next_delivered;
  if (slot->error) {
    s.failure = slot->error;
    s.end = 0;
    std::rethrow_exception(s.failure);
  }
  slot->use = Slot::Use::held;
  s.delivered += slot->size;
  const auto copy = [&](const auto& from) {
    return std::decay_t<decltype(from)>(from.begin(), from.empty() ? from.end() : from.begin() + slot->size);
  };
  batch.size = slot->size;
  batch.global_size = s.sampler.batch_size(slot->batch);
  batch.images = slot->pixels.get();
  batch.labels = copy(slot->labels);
  batch.labels2 = copy(slot->labels2);
  batch.lambda = copy(slot->lambda);
  batch.indices = copy(slot->indices);
  batch.positions = copy(slot->positions);
  // The state outlives the loader for as long as a batch is held.
  batch.hold = std::shared_ptr<const void>(slot->pixels.get(), [state = state_, slot](const void*) {
    {
      const std::lock_guard guard(state->mutex);
      slot->use = Slot::Use::free;
    }
    state->work_ready.notify_all();
  });
  return true;
}

int64_t Loader::batches_per_epoch() const { return state_->sampler.batches_per_epoch(); }
const Sampler& Loader::sampler() const { return state_->sampler; }
double Loader::wait_seconds() const { return state_->wait_seconds; }
int64_t Loader::images_delivered() const { return state_->delivered; }
int64_t Loader::cache_capacity() const { return state_->cache->capacity(); }
int64_t Loader::distinct_images() const { return static_cast<int64_t>(state_->cache_slot.size()); }

}  // namespace cairn::data
