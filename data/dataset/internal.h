#pragma once
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "data/dataset/dataset.h"

// What the readers of the three formats share.
namespace cairn::data {

/// Open tar files; read from any thread.
class ShardFiles {
 public:
  explicit ShardFiles(std::vector<std::string> paths);
  ~ShardFiles();
  ShardFiles(const ShardFiles&) = delete;
  ShardFiles& operator=(const ShardFiles&) = delete;

  const std::string& path(int shard) const { return paths_[shard]; }
  uint64_t size(int shard) const { return sizes_[shard]; }
  /// Throws InputError naming the shard if the bytes are not there.
  std::vector<uint8_t> read(int shard, uint64_t offset, uint64_t size) const;

 private:
  void close_all();
  std::vector<std::string> paths_;
  std::vector<int> files_;
  std::vector<uint64_t> sizes_;
};

struct FolderEntry {
  std::string name;
  std::string path;
  bool is_folder;
};

/// What lies in a folder, sorted by name, links followed, hidden entries left out. Throws InputError.
std::vector<FolderEntry> list_folder(const std::string& path);

/// Sorts by number where every name is one, else by bytes.
void sort_class_names(std::vector<std::string>& names);

/// Fills classes and each item's label from the class names of the items, in their order.
void label_items(Dataset& dataset, const std::vector<std::string>& labels);

/// Sorts the items, refuses empty classes and collects the warnings that all formats share.
void finish_dataset(Dataset& dataset, const std::string& name);

}  // namespace cairn::data
