#pragma once
#include <cstddef>
#include <map>
#include <unordered_map>

namespace cairn {

/// Places blocks in one stretch of address space whose pages come when they are touched: the first gap from
/// the bottom that is large enough, and what is freed grows together with the gaps beside it. So memory
/// serves blocks of any size one after another, and what a process holds is the most that was in use at once
/// and some gaps; a cache that keeps blocks by size holds the most of each size. Not thread-safe.
class Arena {
 public:
  /// Offsets run from 0 to `bytes`, a multiple of kAlign.
  explicit Arena(std::size_t bytes);

  static constexpr std::size_t kAlign = 256;  // as device memory: at least a cache line and any vector
  static constexpr std::size_t kNone = ~std::size_t{0};
  /// Offset of a new block, kNone where no gap is large enough. bytes > 0.
  std::size_t allocate(std::size_t bytes);
  /// Size of the block at this offset, as it was rounded; 0 if there is none.
  std::size_t size_at(std::size_t offset) const;
  void release(std::size_t offset);
  /// End of the highest block there has ever been since the last lower_reach(): what may hold pages.
  std::size_t reach() const { return reach_; }
  /// Forgets what lies beyond the highest block that is in use.
  void lower_reach();
  /// Gaps below reach(), by offset: their sizes.
  const std::map<std::size_t, std::size_t>& gaps() const { return gaps_; }

 private:
  std::map<std::size_t, std::size_t> gaps_;              // offset, size; the last one ends the arena
  std::unordered_map<std::size_t, std::size_t> blocks_;  // offset, size
  std::size_t bytes_;
  std::size_t reach_ = 0;
};

}  // namespace cairn
