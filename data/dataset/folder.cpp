#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "data/csv.h"
#include "data/dataset/internal.h"
#include "kernels/error.h"

namespace cairn::data {
namespace fs = std::filesystem;
namespace {

struct FolderId {
  dev_t device;
  ino_t inode;
};

// Collects the images below `folder`. `above` are the folders on the way down: a link back to one of them
// would go round for ever, and is passed over.
void collect(const std::string& folder, const std::string& relative, std::vector<FolderId>& above,
             Dataset& dataset, int32_t label) {
  struct stat info;
  if (::stat(folder.c_str(), &info) != 0) throw InputError("cannot open the folder " + printable(folder));
  for (const FolderId& id : above) {
    if (id.device == info.st_dev && id.inode == info.st_ino) return;
  }
  above.push_back({info.st_dev, info.st_ino});
  for (const FolderEntry& entry : list_folder(folder)) {
    const std::string path = relative.empty() ? entry.name : relative + "/" + entry.name;
    if (entry.is_folder) {
      collect(entry.path, path, above, dataset, label);
    } else if (has_image_extension(entry.name)) {
      Item item;
      item.path = path;
      item.label = label;
      dataset.items.push_back(std::move(item));
    } else {
      ++dataset.ignored_files;
    }
  }
  above.pop_back();
}

}  // namespace

std::vector<FolderEntry> list_folder(const std::string& path) {
  std::error_code error;
  std::vector<FolderEntry> entries;
  fs::directory_iterator it(path, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error)) {
    std::string name = it->path().filename().string();
    if (name.starts_with(".")) continue;
    std::error_code status_error;  // a dangling link is a file that will fail to read, and be named then
    const bool is_folder = it->is_directory(status_error);
    entries.push_back({std::move(name), it->path().string(), is_folder});
  }
  if (error) throw InputError("cannot read the folder " + printable(path) + ": " + error.message());
  std::sort(entries.begin(), entries.end(),
            [](const FolderEntry& a, const FolderEntry& b) { return a.name < b.name; });
  return entries;
}

Dataset open_folder(const std::string& root) {
  Dataset dataset;
  dataset.root = root;
  int64_t stray = 0;
  for (const FolderEntry& entry : list_folder(root)) {
    if (!entry.is_folder) {
      if (has_image_extension(entry.name)) ++stray;
      continue;
    }
    const auto label = static_cast<int32_t>(dataset.classes.size());
    dataset.classes.push_back(entry.name);
    std::vector<FolderId> above;
    collect(entry.path, entry.name, above, dataset, label);
  }
  if (dataset.classes.empty()) {
    throw InputError(printable(root) + ": no class folders in it: images belong in " + printable(root) +
                     "/CLASS/, one folder a class");
  }
  if (stray > 0) {
    dataset.warnings.push_back((stray == 1 ? "1 image lies" : std::to_string(stray) + " images lie") +
                               " in " + printable(root) + " itself, in no class folder, and " +
                               (stray == 1 ? "was" : "were") + " passed over");
  }
  finish_dataset(dataset, printable(root));
  return dataset;
}

Dataset open_files(const std::vector<std::string>& paths) {
  Dataset dataset;
  for (std::string path : paths) {
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();  // "holiday/": a.jpg is holiday/a.jpg
    std::error_code error;
    if (fs::is_directory(path, error)) {
      std::vector<FolderId> above;
      collect(path, path, above, dataset, -1);
    } else if (fs::exists(path, error)) {
      Item item;
      item.path = path;
      dataset.items.push_back(std::move(item));
    } else {
      throw InputError(printable(path) + ": no such file or folder");
    }
  }
  if (dataset.items.empty())
    throw InputError("no images in " + (paths.empty() ? "an empty list" : printable(paths[0])));
  return dataset;
}

}  // namespace cairn::data
