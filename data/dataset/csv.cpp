#include "data/csv.h"

#include <filesystem>

#include "data/dataset/internal.h"
#include "data/file.h"
#include "kernels/error.h"

namespace cairn::data {
namespace fs = std::filesystem;

Dataset open_csv(const std::string& csv_path) {
  const std::vector<uint8_t> bytes = read_file(csv_path);
  const std::string name = printable(csv_path);
  const std::vector<CsvRecord> records =
      parse_csv({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, csv_path);
  const CsvRecord& header = records[0];
  const int path_column = find_column(header, "path"), label_column = find_column(header, "label");
  const int group_column = find_column(header, "group"), part_column = find_column(header, "part");
  if (path_column < 0 || label_column < 0) {
    throw InputError(name +
                     ":1: the first line must name the columns: path,label and optionally group, part");
  }
  Dataset dataset;
  dataset.root = fs::path(csv_path).parent_path().string();
  if (dataset.root.empty()) dataset.root = ".";
  std::unordered_map<std::string, int64_t> seen;
  std::vector<std::string> labels;
  for (size_t i = 1; i < records.size(); ++i) {
    const CsvRecord& record = records[i];
    const auto fail = [&](const std::string& what) {
      throw InputError(name + ":" + std::to_string(record.line) + ": " + what);
    };
    Item item;
    item.path = record.fields[path_column];
    const std::string& label = record.fields[label_column];
    if (item.path.empty()) fail("the path is empty");
    if (label.empty()) fail("the label of " + printable(item.path) + " is empty");
    if (group_column >= 0) item.group = record.fields[group_column];
    if (part_column >= 0) {
      item.part = record.fields[part_column];
      if (item.part != "" && item.part != "train" && item.part != "val" && item.part != "test") {
        fail("the part '" + printable(item.part) + "' is none of train, val, test");
      }
    }
    const auto [place, is_new] = seen.emplace(item.path, record.line);
    if (!is_new) {
      fail(printable(item.path) + " is listed a second time (first on line " + std::to_string(place->second) +
           ")");
    }
    std::error_code error;
    const fs::file_status status = fs::status(dataset.display_path(item), error);
    if (!fs::exists(status)) {
      fail("no such file: " + printable(dataset.display_path(item)) +
           " (paths are relative to the CSV's folder)");
    }
    if (fs::is_directory(status)) fail(printable(dataset.display_path(item)) + " is a folder, not an image");
    dataset.items.push_back(std::move(item));
    labels.push_back(label);
  }
  if (dataset.items.empty()) throw InputError(name + ": no images below the header");
  label_items(dataset, labels);
  finish_dataset(dataset, name);
  return dataset;
}

}  // namespace cairn::data
