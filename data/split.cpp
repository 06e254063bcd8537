#include "data/split.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "data/csv.h"
#include "data/sampler.h"
#include "data/union_find.h"
#include "kernels/error.h"
#include "kernels/philox.h"

namespace cairn::data {
namespace {

constexpr int kParts = 3;
constexpr int64_t kShownPairs = 3;  // of images under two labels: enough to see what is meant

// Images that stay together.
struct Unit {
  std::vector<int64_t> items;  // ascending
  int32_t label = 0;           // most of its images'
  uint64_t rank = 0;
  std::optional<Part> fixed;  // by the data set, or by the fold
  Part part = Part::train;
  int64_t size() const { return static_cast<int64_t>(items.size()); }
};

uint64_t rank_of(uint64_t seed, const std::string& hash) {
  const Philox4x32 words =
      philox(seed, philox_stream(kStreamSplit, 0), XXH3_64bits(hash.data(), hash.size()));
  return uint64_t{words.v[0]} << 32 | words.v[1];
}

std::string quoted(const std::string& class_name) { return "class '" + printable(class_name) + "'"; }

// Joins what shares content, group or looks; says where one content has two labels.
std::vector<Unit> make_units(const Dataset& dataset, const std::vector<std::string>& hashes,
                             const SplitOptions& options, std::vector<std::string>& warnings) {
  const size_t n = dataset.items.size();
  UnionFind joined(n);
  std::unordered_map<std::string_view, int64_t> by_hash, by_group;
  int64_t two_labels = 0;
  for (size_t i = 0; i < n; ++i) {
    const auto item = static_cast<int64_t>(i);
    const auto [same, is_new] = by_hash.emplace(hashes[i], item);
    if (!is_new) {
      joined.join(same->second, item);
      const Item &a = dataset.items[same->second], &b = dataset.items[i];
      if (a.label != b.label && ++two_labels <= kShownPairs) {
        warnings.push_back(
            printable(a.path) + " and " + printable(b.path) +
            " are the same image under two labels: they stay in one part; correct one of them");
      }
    }
    if (!dataset.items[i].group.empty())
      joined.join(by_group.emplace(dataset.items[i].group, item).first->second, item);
  }
  if (two_labels > kShownPairs) {
    warnings.push_back("and " + std::to_string(two_labels - kShownPairs) +
                       " more images are there under two labels (cairn inspect lists them)");
  }
  for (const auto& [a, b] : options.near_duplicates) joined.join(a, b);

  std::map<int64_t, Unit> by_root;
  for (size_t i = 0; i < n; ++i)
    by_root[joined.find(static_cast<int64_t>(i))].items.push_back(static_cast<int64_t>(i));
  std::vector<Unit> units;
  for (auto& [root, unit] : by_root) {
    std::map<int32_t, int64_t> votes;
    std::string smallest = hashes[unit.items[0]];
    const Item* fixing = nullptr;
    for (const int64_t i : unit.items) {
      const Item& item = dataset.items[i];
      ++votes[item.label];
      smallest = std::min(smallest, hashes[i]);
      if (item.part.empty()) continue;
      if (fixing && fixing->part != item.part) {
        throw InputError(printable(fixing->path) + " (" + fixing->part + ") and " + printable(item.path) +
                         " (" + item.part +
                         ") share content, group or looks: the data set must name one part for both");
      }
      fixing = &item;
      unit.fixed = parse_part(item.part);
    }
    unit.label = std::max_element(votes.begin(), votes.end(), [](const auto& a, const auto& b) {
                   return a.second < b.second;
                 })->first;
    unit.rank = rank_of(options.seed, smallest);
    units.push_back(std::move(unit));
  }
  return units;
}

struct Wanted {
  int64_t val;   // images
  int64_t test;  // images
  bool any_val;  // whether the part is to exist at all
  bool any_test;
};

// Deals the units of one class, in their order; then sees to it that no part that is wanted stays empty.
void deal(std::vector<Unit*>& units, const Wanted& wanted, const std::string& class_name,
          std::vector<std::string>& warnings) {
  std::array<int64_t, kParts> images{}, count{};
  const auto put = [&](Unit& unit, Part part) {
    unit.part = part;
    images[static_cast<int>(part)] += unit.size();
    ++count[static_cast<int>(part)];
  };
  const auto size = [&](Part part) -> int64_t& { return images[static_cast<int>(part)]; };
  for (Unit* unit : units) {
    if (unit->fixed) put(*unit, *unit->fixed);
  }
  for (Unit* unit : units) {
    if (unit->fixed) continue;
    if (size(Part::test) + unit->size() <= wanted.test) {
      put(*unit, Part::test);
    } else if (size(Part::val) + unit->size() <= wanted.val) {
      put(*unit, Part::val);
    } else {
      put(*unit, Part::train);
    }
  }

  // Training comes first, then testing, then validating: a part without images gets the smallest unit of one
  // that can spare it.
  std::string done, missing;
  for (const Part part : {Part::train, Part::test, Part::val}) {
    const bool is_wanted = part == Part::train || (part == Part::test ? wanted.any_test : wanted.any_val);
    if (!is_wanted || size(part) > 0) continue;
    Unit* moved = nullptr;
    for (Unit* unit : units) {
      const bool spare = count[static_cast<int>(unit->part)] > 1 || part == Part::train;
      if (unit->fixed || !spare) continue;
      const auto cost = [](const Unit* u) { return std::pair(u->part != Part::train, u->size()); };
      if (!moved || cost(unit) < cost(moved)) moved = unit;
    }
    const std::string name(part_name(part));
    if (!moved) {
      missing += (missing.empty() ? "" : " and ") + ("no " + name + " images");
      continue;
    }
    size(moved->part) -= moved->size();
    --count[static_cast<int>(moved->part)];
    put(*moved, part);
    done += (done.empty() ? "" : ", ") + std::to_string(moved->size()) + " taken for " + name;
  }
  if (done.empty() && missing.empty()) return;
  warnings.push_back(
      quoted(class_name) + " is too small for its shares" + (done.empty() ? "" : " (" + done + ")") + ": " +
      std::to_string(size(Part::train)) + " train, " + std::to_string(size(Part::val)) + " val, " +
      std::to_string(size(Part::test)) + " test" + (missing.empty() ? "" : "; it has " + missing));
}

std::vector<std::vector<Unit*>> by_class(std::vector<Unit>& units, size_t classes) {
  std::vector<std::vector<Unit*>> result(classes);
  for (Unit& unit : units) result[unit.label].push_back(&unit);
  for (std::vector<Unit*>& members : result) {
    std::stable_sort(members.begin(), members.end(),
                     [](const Unit* a, const Unit* b) { return a->rank < b->rank; });
  }
  return result;
}

int64_t images_of(const std::vector<Unit*>& units) {
  int64_t images = 0;
  for (const Unit* unit : units) images += unit->size();
  return images;
}

Manifest manifest_of(const Dataset& dataset, const std::vector<std::string>& hashes,
                     const std::vector<Unit>& units) {
  Manifest manifest;
  manifest.rows.resize(dataset.items.size());
  int64_t groups = 0;
  for (const Unit& unit : units) {
    const int64_t group = unit.size() > 1 ? groups++ : -1;
    for (const int64_t i : unit.items) {
      const Item& item = dataset.items[i];
      manifest.rows[i] = {item.path, dataset.classes[item.label], unit.part, hashes[i], group, 0};
    }
  }
  return manifest;
}

int64_t share(double fraction, int64_t images) {
  return std::llround(fraction * static_cast<double>(images));
}

struct Fractions {
  double val;
  double test;
};

Fractions check_options(const Dataset& dataset, const std::vector<std::string>& hashes,
                        const SplitOptions& options) {
  if (hashes.size() != dataset.items.size()) throw Error("a split needs one content hash an image");
  if (dataset.items.empty()) throw InputError(printable(dataset.root) + ": no images to split");
  for (const Item& item : dataset.items) {
    if (item.label < 0) throw InputError(printable(item.path) + " has no label: a split needs classes");
  }
  const double own = options.protocol == Protocol::split_first ? 0.15 : 0.2;
  const Fractions f{options.val_fraction < 0 ? own : options.val_fraction,
                    options.test_fraction < 0 ? own : options.test_fraction};
  if (!(f.val < 1) || !(f.test < 1)) throw InputError("a val or test fraction must lie in [0, 1)");
  if (options.protocol == Protocol::split_first && f.val + f.test >= 1) {
    throw InputError("the val and test fractions leave nothing to train on: their sum must be below 1");
  }
  return f;
}

// A class's images once each, then random repeats, up to the largest class's count; then all rows are dealt.
Split oversample_first(const Dataset& dataset, const std::vector<std::string>& hashes,
                       const SplitOptions& options, const Fractions& fractions) {
  std::vector<std::vector<int64_t>> members(dataset.classes.size());
  for (size_t i = 0; i < dataset.items.size(); ++i)
    members[dataset.items[i].label].push_back(static_cast<int64_t>(i));
  size_t largest = 0;
  for (const auto& m : members) largest = std::max(largest, m.size());

  Split split;
  split.manifest.protocol = Protocol::oversample_first;
  std::vector<int64_t> rows, copies, next_copy(dataset.items.size(), 0);
  const auto add = [&](int64_t item) {
    rows.push_back(item);
    copies.push_back(next_copy[item]++);
  };
  for (size_t c = 0; c < members.size(); ++c) {
    if (members[c].empty()) continue;
    for (const int64_t item : members[c]) add(item);
    for (size_t k = members[c].size(); k < largest; ++k) {
      const uint32_t word = philox(options.seed, philox_stream(kStreamSplit, 2 + c), k).v[0];
      add(members[c][uniform_below(word, static_cast<uint32_t>(members[c].size()))]);
    }
  }
  const auto total = static_cast<int64_t>(rows.size());
  const int64_t test = share(fractions.test, total), val = share(fractions.val, total - test);
  if (test + val >= total) throw InputError("the val and test fractions leave nothing to train on");
  for (int64_t i = 0; i < total; ++i) {
    const uint64_t dealt =
        permute(options.seed, philox_stream(kStreamSplit, 1), static_cast<uint64_t>(total), i);
    const auto place = static_cast<int64_t>(dealt);
    const Part part = place < test ? Part::test : place < test + val ? Part::val : Part::train;
    const Item& item = dataset.items[rows[i]];
    split.manifest.rows.push_back(
        {item.path, dataset.classes[item.label], part, hashes[rows[i]], -1, copies[i]});
  }
  std::sort(split.manifest.rows.begin(), split.manifest.rows.end(),
            [](const ManifestRow& a, const ManifestRow& b) {
              return std::tie(a.path, a.copy) < std::tie(b.path, b.copy);
            });
  split.warnings.push_back(
      "oversample-first puts copies of one image into several parts: validation and test accuracy come out "
      "far too "
      "high; it is there for comparison with the original alone, use split-first for anything else");
  return split;
}

}  // namespace

Split split_dataset(const Dataset& dataset, const std::vector<std::string>& hashes,
                    const SplitOptions& options) {
  const Fractions fractions = check_options(dataset, hashes, options);
  if (options.protocol == Protocol::oversample_first)
    return oversample_first(dataset, hashes, options, fractions);
  Split split;
  std::vector<Unit> units = make_units(dataset, hashes, options, split.warnings);
  std::vector<std::vector<Unit*>> classes = by_class(units, dataset.classes.size());
  for (size_t c = 0; c < classes.size(); ++c) {
    const int64_t n = images_of(classes[c]);
    if (n == 0) continue;
    deal(classes[c],
         {share(fractions.val, n), share(fractions.test, n), fractions.val > 0, fractions.test > 0},
         dataset.classes[c], split.warnings);
  }
  split.manifest = manifest_of(dataset, hashes, units);
  return split;
}

std::vector<Split> split_folds(const Dataset& dataset, const std::vector<std::string>& hashes, int folds,
                               const SplitOptions& options) {
  const Fractions fractions = check_options(dataset, hashes, options);
  if (options.protocol != Protocol::split_first) throw InputError("folds need the split-first protocol");
  if (folds < 2) throw InputError("cross-validation needs at least 2 folds");
  if (fractions.val + 1.0 / folds >= 1)
    throw InputError("the val fraction and one fold leave nothing to train on");
  std::vector<std::string> shared_warnings;
  std::vector<Unit> units = make_units(dataset, hashes, options, shared_warnings);
  for (const Unit& unit : units) {
    if (unit.fixed)
      throw InputError("folds choose the test parts themselves: the data set must not name parts");
  }
  std::vector<std::vector<Unit*>> classes = by_class(units, dataset.classes.size());
  // Each unit goes to the fold that has the fewest images of its class so far; classes begin at different
  // folds, so that what does not divide evenly does not gather in the first one.
  std::unordered_map<const Unit*, int> fold_of;
  for (size_t c = 0; c < classes.size(); ++c) {
    std::vector<int64_t> filled(folds, 0);
    for (const Unit* unit : classes[c]) {
      int best = static_cast<int>(c % static_cast<size_t>(folds));
      for (int step = 1; step < folds; ++step) {
        const int fold = static_cast<int>((c + step) % static_cast<size_t>(folds));
        if (filled[fold] < filled[best]) best = fold;
      }
      fold_of[unit] = best;
      filled[best] += unit->size();
    }
    if (static_cast<int64_t>(classes[c].size()) < folds) {
      shared_warnings.push_back(quoted(dataset.classes[c]) + " has fewer images than there are folds: " +
                                std::to_string(folds - static_cast<int>(classes[c].size())) +
                                " folds test without it");
    }
  }
  std::vector<Split> splits(folds);
  for (int fold = 0; fold < folds; ++fold) {
    Split& split = splits[fold];
    split.warnings = shared_warnings;
    for (size_t c = 0; c < classes.size(); ++c) {
      // Validation images come from the pieces that follow, so that they differ from fold to fold.
      std::vector<Unit*> order = classes[c];
      const auto distance = [&](const Unit* unit) { return (fold_of[unit] - fold + folds) % folds; };
      std::stable_sort(order.begin(), order.end(),
                       [&](const Unit* a, const Unit* b) { return distance(a) < distance(b); });
      for (Unit* unit : order) {
        unit->fixed.reset();
        if (distance(unit) == 0) unit->fixed = Part::test;
      }
      const int64_t n = images_of(order);
      if (n > 0)
        deal(order, {share(fractions.val, n), 0, fractions.val > 0, false}, dataset.classes[c],
             split.warnings);
    }
    split.manifest = manifest_of(dataset, hashes, units);
  }
  return splits;
}

}  // namespace cairn::data
