#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset/dataset.h"
#include "data/manifest.h"

namespace cairn::data {

struct SplitOptions {
  Protocol protocol = Protocol::split_first;
  double val_fraction = -1;   // < 0: the protocol's own: 0.15 of all, or 0.2 of what the test part leaves
  double test_fraction = -1;  // < 0: the protocol's own: 0.15 or 0.2 of all
  uint64_t seed = 0;
  /// Pairs of items (indices) that look alike and must stay in one part, from the near-duplicate search.
  std::vector<std::pair<int64_t, int64_t>> near_duplicates = {};
};

struct Split {
  Manifest manifest;
  std::vector<std::string>
      warnings;  // small classes and what was done about them, leaks, labels that disagree
};

/// Splits the images. `hashes` are the content hashes of dataset.items, in their order.
///
/// split_first: stratified. In each class the units (an image, or all that share content, `group` or a
/// near-duplicate pair) are ranked by a hash of (seed, content); in that order they fill test, then val, up
/// to their shares, and the rest is train. A unit's rank does not depend on the other files, so a file added
/// later moves others only across the edge of a part. A class of one unit is all train, of two train and
/// test; from three on no part is empty. Parts named by the data set itself are kept.
///
/// oversample_first: every class is filled to the largest one's size with random repeats (each original
/// once), then rows are dealt at random. Copies lie in several parts: for comparison only.
///
/// Throws InputError for fractions outside [0, 1) or that leave nothing to train on, and for parts named by
/// the data set that share an image.
Split split_dataset(const Dataset& dataset, const std::vector<std::string>& hashes,
                    const SplitOptions& options);

/// K splits for cross-validation: in fold i the i-th of K equal stratified pieces is the test part, and
/// val_fraction of all images is taken from the rest. Every image is tested exactly once.
std::vector<Split> split_folds(const Dataset& dataset, const std::vector<std::string>& hashes, int folds,
                               const SplitOptions& options);

}  // namespace cairn::data
