#include "data/fixes.h"

#include <algorithm>
#include <unordered_map>

#include "data/csv.h"
#include "kernels/error.h"

namespace cairn::data {

std::string fixes_text(const std::vector<Fix>& fixes) {
  std::string text = "path,action,label\n";
  for (const Fix& fix : fixes) {
    append_csv_field(text, fix.path);
    text += fix.drops() ? ",drop," : ",label,";
    append_csv_field(text, fix.label);
    text += '\n';
  }
  return text;
}

std::vector<Fix> parse_fixes(std::string_view text, std::string_view name) {
  const std::vector<CsvRecord> records = parse_csv(text, name);
  const auto fail = [&](const CsvRecord& record, const std::string& what) {
    throw InputError(printable(name) + ":" + std::to_string(record.line) + ": " + what);
  };
  int columns[3];
  constexpr std::string_view kNames[] = {"path", "action", "label"};
  for (int i = 0; i < 3; ++i) {
    columns[i] = find_column(records[0], kNames[i]);
    if (columns[i] < 0)
      fail(records[0],
           "no column '" + std::string(kNames[i]) + "': this is no fixes file (cairn inspect writes one)");
  }
  std::vector<Fix> fixes;
  std::unordered_map<std::string, int64_t> seen;
  for (size_t i = 1; i < records.size(); ++i) {
    const CsvRecord& record = records[i];
    const std::string& action = record.fields[columns[1]];
    Fix fix{record.fields[columns[0]], record.fields[columns[2]]};
    if (fix.path.empty()) fail(record, "the path is empty");
    if (action != "drop" && action != "label")
      fail(record, "the action '" + printable(action) + "' is none of drop, label");
    if ((action == "drop") != fix.drops())
      fail(record, action == "drop" ? "an image to drop has no label" : "the new label is empty");
    const auto [first, is_new] = seen.emplace(fix.path, record.line);
    if (!is_new)
      fail(record, printable(fix.path) + " is named a second time (first on line " +
                       std::to_string(first->second) + ")");
    fixes.push_back(std::move(fix));
  }
  return fixes;
}

FixesDone apply_fixes(Dataset& dataset, const std::vector<Fix>& fixes) {
  std::unordered_map<std::string_view, const Fix*> by_path;
  for (const Fix& fix : fixes) by_path.emplace(fix.path, &fix);
  FixesDone done;
  std::vector<Item> kept;
  for (Item& item : dataset.items) {
    const auto found = by_path.find(item.path);
    if (found == by_path.end()) {
      kept.push_back(std::move(item));
      continue;
    }
    const Fix& fix = *found->second;
    by_path.erase(found);
    if (fix.drops()) {
      ++done.dropped;
      continue;
    }
    const auto place = std::find(dataset.classes.begin(), dataset.classes.end(), fix.label);
    if (place == dataset.classes.end())
      throw InputError("the fix of " + printable(fix.path) + " names the class '" + printable(fix.label) +
                       "', which " + printable(dataset.root) + " does not have");
    item.label = static_cast<int32_t>(place - dataset.classes.begin());
    ++done.relabelled;
    kept.push_back(std::move(item));
  }
  dataset.items = std::move(kept);
  for (const auto& [path, fix] : by_path) {
    if (!fix->drops())
      throw InputError("the fixes name " + printable(path) + ", which is not among the images of " +
                       printable(dataset.root));
    ++done.absent;
  }
  const std::vector<int64_t> counts = dataset.class_counts();
  for (size_t c = 0; c < counts.size(); ++c) {
    if (counts[c] == 0)
      throw InputError("the fixes leave class '" + printable(dataset.classes[c]) +
                       "' without an image: keep one, or remove the class's folder");
  }
  return done;
}

}  // namespace cairn::data
