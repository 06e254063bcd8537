#pragma once
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

namespace cairn::data {

/// Sets of 0 ... n - 1 that grow together; a set's root is its smallest member.
class UnionFind {
 public:
  explicit UnionFind(size_t n) : parent_(n) { std::iota(parent_.begin(), parent_.end(), 0); }
  int64_t find(int64_t i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void join(int64_t a, int64_t b) {
    a = find(a);
    b = find(b);
    parent_[std::max(a, b)] = std::min(a, b);
  }

 private:
  std::vector<int64_t> parent_;
};

}  // namespace cairn::data
