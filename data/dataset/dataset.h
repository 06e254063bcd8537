#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cairn::data {

/// One image of a data set.
struct Item {
  std::string path;     // relative to the set's root, '/' between parts; in a shard: "shard.tar/KEY.jpg"
  int32_t label = -1;   // index into Dataset::classes; -1 where there are no labels
  std::string group;    // images of one thing share it and stay in one part; empty: alone
  std::string part;     // "train", "val" or "test" where the CSV says so; else empty
  int32_t shard = -1;   // index of the tar shard it lies in, -1: a file of its own
  uint64_t offset = 0;  // in the shard, bytes
  uint64_t size = 0;    // in the shard, bytes
};

class ShardFiles;

/// A list of labelled images and how to read their bytes. Cheap to copy next to its images; reading is safe
/// from several threads at once.
struct Dataset {
  std::string root;  // folder that paths are relative to
  std::vector<std::string>
      classes;              // sorted, by number where all are numbers; never empty but for plain files
  std::vector<Item> items;  // sorted by path
  std::vector<std::string> warnings;  // what a person should know, one line each
  int64_t ignored_files = 0;          // files without an image's extension
  std::shared_ptr<const ShardFiles> shards;

  /// The file's bytes. Throws InputError naming the file if it is gone or cannot be read.
  std::vector<uint8_t> read_bytes(const Item& item) const;
  /// Where a person finds the item: root and path joined.
  std::string display_path(const Item& item) const;
  /// Images of each class, in class order.
  std::vector<int64_t> class_counts() const;
};

/// Opens what `path` is: a folder with one folder of images a class, a CSV (path,label[,group][,part]), a
/// .tar shard, or a folder of .tar shards. Throws InputError (missing, unreadable, no classes, an empty
/// class, a malformed CSV line or tar header); what can be lived with is a warning.
Dataset open_dataset(const std::string& path);

/// One folder a class; files may lie deeper. Hidden files and folders are passed over.
Dataset open_folder(const std::string& root);
/// Columns path and label, optionally group and part, in any order; RFC 4180 quotes, LF or CRLF, UTF-8 with
/// or without a byte-order mark. Paths are relative to the CSV's folder.
Dataset open_csv(const std::string& csv_path);
/// WebDataset shards: KEY.jpg|png|… with KEY.cls beside it. ustar, GNU long names, pax paths.
Dataset open_tar(const std::vector<std::string>& shard_paths);
/// Images without labels: files, and folders searched through. For predicting.
Dataset open_files(const std::vector<std::string>& paths);

/// Whether the name ends like an image that cairn may read (also HEIC and AVIF, so that they are refused by
/// name and not passed over).
bool has_image_extension(std::string_view name);

}  // namespace cairn::data
