#include "data/dataset/dataset.h"

#include <algorithm>
#include <filesystem>
#include <string>

#include "data/csv.h"
#include "data/dataset/internal.h"
#include "data/file.h"
#include "kernels/error.h"

namespace cairn::data {
namespace fs = std::filesystem;

bool has_image_extension(std::string_view name) {
  static constexpr std::string_view kExtensions[] = {"jpg", "jpeg", "jpe",  "jfif", "png", "webp",
                                                     "bmp", "gif",  "tga",  "pnm",  "ppm", "pgm",
                                                     "pbm", "pam",  "heic", "heif", "avif"};
  const size_t dot = name.rfind('.');
  if (dot == std::string_view::npos) return false;
  std::string extension(name.substr(dot + 1));
  for (char& c : extension) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return std::find(std::begin(kExtensions), std::end(kExtensions), extension) != std::end(kExtensions);
}

std::string Dataset::display_path(const Item& item) const { return (fs::path(root) / item.path).string(); }

std::vector<uint8_t> Dataset::read_bytes(const Item& item) const {
  if (item.shard < 0) return read_file(display_path(item));
  return shards->read(item.shard, item.offset, item.size);
}

std::vector<int64_t> Dataset::class_counts() const {
  std::vector<int64_t> counts(classes.size(), 0);
  for (const Item& item : items) {
    if (item.label >= 0) ++counts[item.label];
  }
  return counts;
}

void sort_class_names(std::vector<std::string>& names) {
  const auto is_number = [](const std::string& name) {
    return !name.empty() && name.size() < 18 && name.find_first_not_of("0123456789") == std::string::npos;
  };
  if (std::all_of(names.begin(), names.end(), is_number)) {
    std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
      return std::pair(std::stoll(a), a) < std::pair(std::stoll(b), b);
    });
  } else {
    std::sort(names.begin(), names.end());
  }
}

void label_items(Dataset& dataset, const std::vector<std::string>& labels) {
  dataset.classes = labels;
  std::sort(dataset.classes.begin(), dataset.classes.end());
  dataset.classes.erase(std::unique(dataset.classes.begin(), dataset.classes.end()), dataset.classes.end());
  sort_class_names(dataset.classes);
  std::unordered_map<std::string_view, int32_t> index;
  for (size_t i = 0; i < dataset.classes.size(); ++i) index[dataset.classes[i]] = static_cast<int32_t>(i);
  for (size_t i = 0; i < labels.size(); ++i) dataset.items[i].label = index.at(labels[i]);
}

void finish_dataset(Dataset& dataset, const std::string& name) {
  std::sort(dataset.items.begin(), dataset.items.end(),
            [](const Item& a, const Item& b) { return a.path < b.path; });
  const std::vector<int64_t> counts = dataset.class_counts();
  for (size_t i = 0; i < counts.size(); ++i) {
    const std::string quoted = "class '" + printable(dataset.classes[i]) + "'";
    if (counts[i] == 0) {
      throw InputError(name + ": " + quoted + " has no images: add some, or remove its folder");
    }
    if (counts[i] == 1) {
      dataset.warnings.push_back(quoted + " has a single image: nothing is left to validate or test it with");
    }
  }
  if (counts.size() == 1) {
    dataset.warnings.push_back("there is a single class, '" + printable(dataset.classes[0]) +
                               "': a classifier needs two to learn anything");
  }
  if (dataset.ignored_files > 0) {
    dataset.warnings.push_back(
        (dataset.ignored_files == 1 ? "1 file was" : std::to_string(dataset.ignored_files) + " files were") +
        std::string(" passed over: images end in .jpg, .png, .webp, .bmp, .gif, .tga or .ppm"));
  }
}

Dataset open_dataset(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (!fs::exists(status)) {
    throw InputError(printable(path) +
                     ": no such file or folder (the data set: a folder with one folder of images " +
                     "a class, a CSV, or .tar shards)");
  }
  if (fs::is_directory(status)) {
    std::vector<std::string> shards;
    bool has_folder = false;
    for (const FolderEntry& entry : list_folder(path)) {
      if (entry.is_folder) has_folder = true;
      if (!entry.is_folder && entry.name.ends_with(".tar")) shards.push_back(entry.path);
    }
    return !shards.empty() && !has_folder ? open_tar(shards) : open_folder(path);
  }
  std::string extension = fs::path(path).extension().string();
  if (extension == ".csv" || extension == ".CSV") return open_csv(path);
  if (extension == ".tar") return open_tar({path});
  throw InputError(printable(path) +
                   ": a data set is a folder with one folder of images a class, a .csv file or a " +
                   ".tar shard");
}

}  // namespace cairn::data
