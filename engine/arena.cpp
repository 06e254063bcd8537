#include "engine/arena.h"

#include <algorithm>
#include <iterator>

namespace cairn {

Arena::Arena(std::size_t bytes) : bytes_(bytes) {
  if (bytes > 0) gaps_[0] = bytes;
}

std::size_t Arena::allocate(std::size_t bytes) {
  const std::size_t size = (bytes + kAlign - 1) / kAlign * kAlign;
  if (size < bytes) return kNone;  // the sum wrapped
  const auto gap = std::find_if(gaps_.begin(), gaps_.end(), [&](const auto& g) { return g.second >= size; });
  if (gap == gaps_.end()) return kNone;
  const auto [offset, room] = *gap;
  gaps_.erase(gap);
  if (room > size) gaps_[offset + size] = room - size;
  blocks_[offset] = size;
  reach_ = std::max(reach_, offset + size);
  return offset;
}

std::size_t Arena::size_at(std::size_t offset) const {
  const auto block = blocks_.find(offset);
  return block == blocks_.end() ? 0 : block->second;
}

void Arena::release(std::size_t offset) {
  const auto block = blocks_.find(offset);
  if (block == blocks_.end()) return;
  std::size_t size = block->second;
  blocks_.erase(block);
  const auto after = gaps_.lower_bound(offset);
  if (after != gaps_.begin()) {
    const auto before = std::prev(after);
    if (before->first + before->second == offset) {
      offset = before->first;
      size += before->second;
      gaps_.erase(before);
    }
  }
  if (after != gaps_.end() && offset + size == after->first) {
    size += after->second;
    gaps_.erase(after);
  }
  gaps_[offset] = size;
}

void Arena::lower_reach() {
  reach_ = bytes_;
  if (gaps_.empty()) return;
  const auto last = std::prev(gaps_.end());
  if (last->first + last->second == bytes_) reach_ = last->first;
}

}  // namespace cairn
