#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset/dataset.h"

namespace cairn::data {

enum class Part : uint8_t { train, val, test };
enum class Protocol : uint8_t { split_first, oversample_first };

std::string_view part_name(Part part);
Part parse_part(std::string_view name);  // throws InputError

/// One line of split.csv.
struct ManifestRow {
  std::string path;   // as Item::path
  std::string label;  // class name
  Part part = Part::train;
  std::string hash;              // content hash of the file
  int64_t duplicate_group = -1;  // rows that share one stay in one part; -1: alone
  int64_t copy = 0;              // oversample-first: 0 is the original, 1, 2, … repeats
};

/// Which image is in which part, for every later step: the split, frozen.
struct Manifest {
  Protocol protocol = Protocol::split_first;
  std::vector<ManifestRow> rows;

  int64_t count(Part part) const;
};

/// Columns path,class,part,hash,duplicate_group and, under oversample-first, copy. Written under another name
/// and renamed, so that a crash never leaves half a file.
void write_manifest(const std::string& path, const Manifest& manifest);
/// Throws InputError with the line number for anything that write_manifest would not have written.
Manifest read_manifest(const std::string& path);
/// The same of its text; `name` stands in messages.
Manifest parse_manifest(std::string_view text, const std::string& name);

/// What the parts share by content or duplicate group, one line each, at most `limit`; empty: nothing leaks.
std::vector<std::string> find_leaks(const Manifest& manifest, size_t limit = 10);
/// Throws InputError naming the first leak. An oversample-first manifest leaks by design and is let through.
void check_disjoint(const Manifest& manifest);

/// Indices into dataset.items of a part's rows, repeated as the rows are, in path order. Throws InputError
/// for a row whose file is not in the set or has another class there.
std::vector<int64_t> part_items(const Dataset& dataset, const Manifest& manifest, Part part);

/// Reads the files of the manifest again (workers threads, 0: one a core) and brings it up to date: rows of
/// files that are gone are taken out, labels and hashes that changed are put right. Returns what differed,
/// one line a file, in the order of the rows; empty: all is as it was split. Files that the manifest does not
/// name are passed over.
std::vector<std::string> update_manifest(Manifest& manifest, const Dataset& dataset, int workers = 0);

}  // namespace cairn::data
