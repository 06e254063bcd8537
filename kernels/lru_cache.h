#pragma once
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

namespace cairn::kernels {

struct CacheCounts {
  std::int64_t hits = 0, misses = 0, evictions = 0, size = 0;
};

/// The last `capacity` values used, from any thread. A value handed out lives on while it is used, even when
/// it has been evicted. Key is compared by <.
template <class Key, class Value>
class LruCache {
 public:
  explicit LruCache(std::size_t capacity) : capacity_(capacity) {}

  /// The value of `key`, made by make() on a miss; what make() throws passes through and nothing is kept.
  template <class Make>
  std::shared_ptr<const Value> get(const Key& key, Make&& make) {
    if (auto found = find(key)) return found;
    // Built outside the lock: it takes milliseconds. Two threads may both build; the first to finish wins.
    auto value = std::make_shared<const Value>(make());
    const std::lock_guard lock(mutex_);
    ++counts_.misses;
    if (const auto it = index_.find(key); it != index_.end()) return it->second->second;
    order_.emplace_front(key, value);
    index_[key] = order_.begin();
    if (order_.size() > capacity_) {
      index_.erase(order_.back().first);
      order_.pop_back();
      ++counts_.evictions;
    }
    return value;
  }
  CacheCounts counts() const {
    const std::lock_guard lock(mutex_);
    CacheCounts c = counts_;
    c.size = static_cast<std::int64_t>(order_.size());
    return c;
  }

 private:
  using Entry = std::pair<Key, std::shared_ptr<const Value>>;
  std::shared_ptr<const Value> find(const Key& key) {
    const std::lock_guard lock(mutex_);
    const auto it = index_.find(key);
    if (it == index_.end()) return nullptr;
    ++counts_.hits;
    order_.splice(order_.begin(), order_, it->second);
    return it->second->second;
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  CacheCounts counts_;
  std::list<Entry> order_;  // most recently used first
  std::map<Key, typename std::list<Entry>::iterator> index_;
};

}  // namespace cairn::kernels
