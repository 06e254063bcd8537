#include "data/manifest.h"

#include <algorithm>
#include <limits>
#include <map>
#include <unordered_map>

#include "data/atomic_file.h"
#include "data/csv.h"
#include "data/file.h"
#include "data/hash.h"
#include "data/parallel.h"
#include "kernels/error.h"

namespace cairn::data {
namespace {

constexpr std::string_view kColumns[] = {"path", "class", "part", "hash", "duplicate_group"};

int64_t parse_count(const std::string& text) {
  if (text.empty() || text.size() > 18 || text.find_first_not_of("0123456789") != std::string::npos)
    return -1;
  return std::stoll(text);
}

}  // namespace

std::string_view part_name(Part part) {
  switch (part) {
    case Part::train:
      return "train";
    case Part::val:
      return "val";
    case Part::test:
      return "test";
  }
  throw Error("no such part");
}

Part parse_part(std::string_view name) {
  for (const Part part : {Part::train, Part::val, Part::test}) {
    if (name == part_name(part)) return part;
  }
  throw InputError("'" + printable(name) + "' is no part: use train, val or test");
}

int64_t Manifest::count(Part part) const {
  return std::count_if(rows.begin(), rows.end(), [part](const ManifestRow& row) { return row.part == part; });
}

void write_manifest(const std::string& path, const Manifest& manifest) {
  const bool copies = manifest.protocol == Protocol::oversample_first;
  std::string text = "path,class,part,hash,duplicate_group";
  text += copies ? ",copy\n" : "\n";
  for (const ManifestRow& row : manifest.rows) {
    append_csv_field(text, row.path);
    text += ',';
    append_csv_field(text, row.label);
    text += ',';
    text += part_name(row.part);
    text += ',';
    append_csv_field(text, row.hash);
    text += ',';
    if (row.duplicate_group >= 0) text += std::to_string(row.duplicate_group);
    if (copies) text += "," + std::to_string(row.copy);
    text += '\n';
  }
  write_file_atomically(path, text);
}

Manifest read_manifest(const std::string& path) {
  const std::vector<uint8_t> bytes = read_file(path);
  return parse_manifest({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
}

Manifest parse_manifest(std::string_view text, const std::string& name) {
  const std::vector<CsvRecord> records = parse_csv(text, name);
  const auto fail = [&](const CsvRecord& record, const std::string& what) {
    throw InputError(printable(name) + ":" + std::to_string(record.line) + ": " + what);
  };
  int columns[5];
  for (int i = 0; i < 5; ++i) {
    columns[i] = find_column(records[0], kColumns[i]);
    if (columns[i] < 0) {
      fail(records[0],
           "no column '" + std::string(kColumns[i]) + "': this is no split file (cairn split writes one)");
    }
  }
  const int copy_column = find_column(records[0], "copy");
  Manifest manifest;
  if (copy_column >= 0) manifest.protocol = Protocol::oversample_first;
  std::map<std::pair<std::string, int64_t>, int64_t> seen;
  for (size_t i = 1; i < records.size(); ++i) {
    const CsvRecord& record = records[i];
    ManifestRow row;
    row.path = record.fields[columns[0]];
    row.label = record.fields[columns[1]];
    const std::string& part = record.fields[columns[2]];
    row.hash = record.fields[columns[3]];
    const std::string& group = record.fields[columns[4]];
    if (row.path.empty() || row.label.empty() || row.hash.empty())
      fail(record, "a path, class or hash is empty");
    if (part != "train" && part != "val" && part != "test") {
      fail(record, "the part '" + printable(part) + "' is none of train, val, test");
    }
    row.part = parse_part(part);
    if (!group.empty() && (row.duplicate_group = parse_count(group)) < 0) {
      fail(record, "the duplicate_group '" + printable(group) + "' is no number");
    }
    if (copy_column >= 0 && (row.copy = parse_count(record.fields[copy_column])) < 0) {
      fail(record, "the copy '" + printable(record.fields[copy_column]) + "' is no number");
    }
    const auto [place, is_new] = seen.emplace(std::pair(row.path, row.copy), record.line);
    if (!is_new) {
      fail(record, printable(row.path) + " is listed a second time (first on line " +
                       std::to_string(place->second) + ")");
    }
    manifest.rows.push_back(std::move(row));
  }
  if (manifest.rows.empty()) fail(records[0], "no images below the header");
  return manifest;
}

std::vector<std::string> find_leaks(const Manifest& manifest, size_t limit) {
  std::vector<std::string> leaks;
  std::unordered_map<std::string_view, const ManifestRow*> by_hash;
  std::unordered_map<int64_t, const ManifestRow*> by_group;
  for (const ManifestRow& row : manifest.rows) {
    if (leaks.size() >= limit) break;
    const ManifestRow* first = by_hash.emplace(row.hash, &row).first->second;
    const char* what = " hold the same content";
    if (first->part == row.part && row.duplicate_group >= 0) {
      first = by_group.emplace(row.duplicate_group, &row).first->second;
      what = " are in one duplicate group";
    }
    if (first->part == row.part) continue;
    const auto named = [](const ManifestRow& r) {
      return printable(r.path) + " (" + std::string(part_name(r.part)) + ")";
    };
    leaks.push_back(first->path == row.path
                        ? printable(row.path) + " is in both " + std::string(part_name(first->part)) +
                              " and " + std::string(part_name(row.part))
                        : named(*first) + " and " + named(row) + what);
  }
  return leaks;
}

void check_disjoint(const Manifest& manifest) {
  if (manifest.protocol == Protocol::oversample_first) return;
  const std::vector<std::string> leaks = find_leaks(manifest, 1);
  if (!leaks.empty()) {
    throw InputError("the parts of the split are not disjoint: " + leaks[0] +
                     "; make the split anew with cairn split");
  }
}

std::vector<int64_t> part_items(const Dataset& dataset, const Manifest& manifest, Part part) {
  std::unordered_map<std::string_view, int64_t> by_path;
  for (size_t i = 0; i < dataset.items.size(); ++i)
    by_path.emplace(dataset.items[i].path, static_cast<int64_t>(i));
  std::vector<int64_t> items;
  for (const ManifestRow& row : manifest.rows) {
    if (row.part != part) continue;
    const auto place = by_path.find(row.path);
    if (place == by_path.end()) {
      throw InputError("the split names " + printable(row.path) + ", which is not among the images of " +
                       printable(dataset.root) +
                       ": was it moved or left out, or is this another data set's split?");
    }
    const Item& item = dataset.items[place->second];
    if (item.label < 0 || dataset.classes[item.label] != row.label) {
      throw InputError("the split has " + printable(row.path) + " as '" + printable(row.label) +
                       "', the data set as '" +
                       (item.label < 0 ? "" : printable(dataset.classes[item.label])) + "'");
    }
    items.push_back(place->second);
  }
  std::sort(items.begin(), items.end());  // dataset.items are in path order
  return items;
}

std::vector<std::string> update_manifest(Manifest& manifest, const Dataset& dataset, int workers) {
  std::unordered_map<std::string_view, int64_t> by_path;
  for (size_t i = 0; i < dataset.items.size(); ++i)
    by_path.emplace(dataset.items[i].path, static_cast<int64_t>(i));
  std::vector<bool> wanted(dataset.items.size(), false);
  for (const ManifestRow& row : manifest.rows)
    if (const auto place = by_path.find(row.path); place != by_path.end()) wanted[place->second] = true;
  std::vector<std::string> hashes(dataset.items.size());
  parallel_for(static_cast<int64_t>(dataset.items.size()), workers, [&](int64_t i) {
    if (wanted[i]) hashes[i] = content_hash(dataset.read_bytes(dataset.items[i]));
  });
  std::vector<std::string> differences;
  std::vector<ManifestRow> rows;
  for (ManifestRow& row : manifest.rows) {
    // A copy differs as its original does.
    const auto tell = [&, name = printable(row.path)](const std::string& what) {
      if (row.copy == 0) differences.push_back(name + " " + what);
    };
    const auto place = by_path.find(row.path);
    if (place == by_path.end()) {
      tell("is gone");
      continue;
    }
    const int32_t label = dataset.items[place->second].label;
    const std::string now = label < 0 ? "" : dataset.classes[label];
    if (now != row.label) tell("was '" + printable(row.label) + "' and is '" + printable(now) + "'");
    if (hashes[place->second] != row.hash) tell("has other content");
    row.label = now;
    row.hash = hashes[place->second];
    rows.push_back(std::move(row));
  }
  manifest.rows = std::move(rows);
  return differences;
}

}  // namespace cairn::data
