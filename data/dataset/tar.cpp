#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <system_error>

#include "data/csv.h"
#include "data/dataset/internal.h"
#include "kernels/error.h"

// WebDataset shards. POSIX.1-1988 ustar headers with their prefix field, POSIX.1-2001 pax records `path` and
// `size`, GNU 'L' records and base-256 sizes. Nothing is ever extracted: an entry's name is only a name.
namespace cairn::data {
namespace fs = std::filesystem;

ShardFiles::ShardFiles(std::vector<std::string> paths) : paths_(std::move(paths)) {
  for (const std::string& path : paths_) {
    const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const int error = errno;
    struct stat info;
    if (file < 0 || ::fstat(file, &info) != 0) {
      if (file >= 0) ::close(file);
      close_all();
      throw InputError("cannot open " + printable(path) + ": " + std::generic_category().message(error));
    }
    files_.push_back(file);
    sizes_.push_back(static_cast<uint64_t>(info.st_size));
  }
}

ShardFiles::~ShardFiles() { close_all(); }

void ShardFiles::close_all() {
  for (const int file : files_) ::close(file);
  files_.clear();
}

std::vector<uint8_t> ShardFiles::read(int shard, uint64_t offset, uint64_t size) const {
  if (offset > sizes_[shard] || size > sizes_[shard] - offset) {
    throw InputError(printable(paths_[shard]) + ": ends inside an entry: the shard is cut short");
  }
  std::vector<uint8_t> bytes(size);
  for (uint64_t done = 0; done < size;) {
    const ssize_t n =
        ::pread(files_[shard], bytes.data() + done, size - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      throw InputError("cannot read " + printable(paths_[shard]) + ": " +
                       (n < 0 ? std::generic_category().message(errno) : "it has become shorter"));
    }
    done += static_cast<uint64_t>(n);
  }
  return bytes;
}

namespace {

constexpr uint64_t kBlock = 512;
// Names and pax records longer than this are no names: they are refused before they are read.
constexpr uint64_t kLongestName = 64 << 10;
constexpr uint64_t kLongestLabel = 4 << 10;
constexpr char kNoHeader[] = "no tar header (its checksum is wrong): the shard is damaged";

struct Entry {
  std::string name;
  uint64_t offset;
  uint64_t size;
};

class TarReader {
 public:
  TarReader(const ShardFiles& files, int shard) : files_(files), shard_(shard) {}

  /// The regular files of the shard, in order.
  std::vector<Entry> read_index() {
    std::vector<Entry> entries;
    std::string long_name;
    uint64_t pax_size = 0;
    bool has_pax_size = false;
    while (at_ < files_.size(shard_)) {
      const std::vector<uint8_t> block = files_.read(shard_, at_, kBlock);
      if (std::all_of(block.begin(), block.end(), [](uint8_t b) { return b == 0; })) break;
      check_header(block);
      uint64_t size = number(block, 124, 12, "a size that is no number or beyond all bounds");
      const char type = static_cast<char>(block[156]);
      const bool is_extension = type == 'L' || type == 'K' || type == 'x' || type == 'g';
      if (has_pax_size && !is_extension) size = pax_size;
      const uint64_t data = at_ + kBlock;
      if (data > files_.size(shard_) || size > files_.size(shard_) - data) {
        fail("an entry of " + std::to_string(size) + " bytes goes past the end: the shard is cut short");
      }
      if (is_extension) {
        if (type == 'L') {
          long_name = text(data, size);
          long_name = long_name.substr(0, long_name.find('\0'));
        } else if (type == 'x') {
          read_pax(text(data, size), long_name, pax_size, has_pax_size);
        }
      } else {
        if (type == '0' || type == '\0' || type == '7') {
          entries.push_back({clean(long_name.empty() ? header_name(block) : long_name), data, size});
        }
        long_name.clear();
        has_pax_size = false;
      }
      // size <= the file's, so the sum cannot wrap.
      at_ = data + (size + kBlock - 1) / kBlock * kBlock;
    }
    return entries;
  }

  std::string text(uint64_t offset, uint64_t size) const {
    if (size > kLongestName) fail("a name record of " + std::to_string(size) + " bytes");
    const std::vector<uint8_t> bytes = files_.read(shard_, offset, size);
    return {bytes.begin(), bytes.end()};
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw InputError(printable(files_.path(shard_)) + ": at byte " + std::to_string(at_) + ": " + what);
  }

 private:
  void check_header(const std::vector<uint8_t>& block) const {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < kBlock; ++i) sum += i >= 148 && i < 156 ? ' ' : block[i];
    if (sum != number(block, 148, 8, kNoHeader)) fail(kNoHeader);
  }

  uint64_t number(const std::vector<uint8_t>& block, size_t start, size_t length,
                  const char* complaint) const {
    uint64_t value = 0;
    if (block[start] & 0x80u) {  // GNU base-256, big-endian; the first byte's top bit is the mark
      for (size_t i = 0; i < length; ++i) {
        if (value >> 55) fail(complaint);
        value = value << 8 | (i == 0 ? block[start] & 0x7Fu : block[start + i]);
      }
      return value;
    }
    size_t i = start;
    while (i < start + length && block[i] == ' ') ++i;
    for (; i < start + length && block[i] != ' ' && block[i] != '\0'; ++i) {
      if (block[i] < '0' || block[i] > '7') fail(complaint);
      value = value << 3 | (block[i] - '0');
    }
    return value;
  }

  static std::string field(const std::vector<uint8_t>& block, size_t start, size_t length) {
    const char* begin = reinterpret_cast<const char*>(block.data()) + start;
    return {begin, ::strnlen(begin, length)};
  }

  static std::string header_name(const std::vector<uint8_t>& block) {
    std::string name = field(block, 0, 100);
    // GNU's own format keeps other things where POSIX has the prefix; its magic is "ustar  ".
    if (std::memcmp(block.data() + 257, "ustar\0", 6) == 0) {
      const std::string prefix = field(block, 345, 155);
      if (!prefix.empty()) name = prefix + "/" + name;
    }
    return name;
  }

  // Records "LENGTH KEY=VALUE\n"; LENGTH counts itself.
  void read_pax(const std::string& records, std::string& path, uint64_t& size, bool& has_size) const {
    size_t at = 0;
    while (at < records.size()) {
      size_t length = 0, i = at;
      for (; i < records.size() && records[i] >= '0' && records[i] <= '9' && length <= kLongestName; ++i) {
        length = length * 10 + static_cast<size_t>(records[i] - '0');
      }
      const size_t equals = records.find('=', i);
      if (i == records.size() || records[i] != ' ' || length > records.size() - at ||
          equals == std::string::npos || equals >= at + length || length < 5 ||
          records[at + length - 1] != '\n') {
        fail("a malformed pax record");
      }
      const std::string key = records.substr(i + 1, equals - i - 1);
      const std::string value = records.substr(equals + 1, at + length - 1 - (equals + 1));
      if (key == "path") path = value;
      if (key == "size") {
        if (value.empty() || value.size() > 18 ||
            value.find_first_not_of("0123456789") != std::string::npos) {
          fail("a pax size that is no number");
        }
        size = std::stoull(value);
        has_size = true;
      }
      at += length;
    }
  }

  // Drops "./"; a name that would leave a folder it was unpacked to is refused, for whoever unpacks it later.
  std::string clean(std::string name) const {
    while (name.starts_with("./")) name.erase(0, 2);
    bool leaves = name.empty() || name[0] == '/' || name.find('\0') != std::string::npos;
    for (size_t start = 0; start <= name.size() && !leaves;) {
      const size_t end = std::min(name.find('/', start), name.size());
      leaves = name.compare(start, end - start, "..") == 0;
      start = end + 1;
    }
    if (leaves) fail("the name '" + printable(name) + "' leaves the shard's own folder, or is empty");
    return name;
  }

  const ShardFiles& files_;
  int shard_;
  uint64_t at_ = 0;
};

struct Sample {
  const Entry* image = nullptr;
  const Entry* label = nullptr;
};

std::string read_label(const TarReader& tar, const Entry& entry) {
  if (entry.size > kLongestLabel) tar.fail(printable(entry.name) + " is too long for a class name");
  std::string label = tar.text(entry.offset, entry.size);
  const size_t first = label.find_first_not_of(" \t\r\n");
  if (first == std::string::npos) tar.fail(printable(entry.name) + " is empty: it must hold the class");
  label = label.substr(first, label.find_last_not_of(" \t\r\n") - first + 1);
  if (label.find_first_of(std::string_view("\n\r\0", 3)) != std::string::npos) {
    tar.fail(printable(entry.name) + " holds more than one line: it must hold the class");
  }
  return label;
}

}  // namespace

Dataset open_tar(const std::vector<std::string>& shard_paths) {
  Dataset dataset;
  auto files = std::make_shared<ShardFiles>(shard_paths);
  dataset.shards = files;
  dataset.root = fs::path(shard_paths.at(0)).parent_path().string();
  if (dataset.root.empty()) dataset.root = ".";
  std::vector<std::string> labels;
  int64_t lone_labels = 0;
  for (size_t shard = 0; shard < shard_paths.size(); ++shard) {
    TarReader tar(*files, static_cast<int>(shard));
    const std::string shard_name = fs::path(shard_paths[shard]).filename().string();
    const std::vector<Entry> entries = tar.read_index();
    // WebDataset's key: the path up to the first dot of its last part.
    std::map<std::string, Sample> samples;
    for (const Entry& entry : entries) {
      const size_t base = entry.name.rfind('/') + 1;  // npos + 1 is 0
      const size_t dot = entry.name.find('.', base);
      if (dot == base) continue;  // hidden
      const bool is_label =
          dot != std::string::npos && entry.name.compare(dot, std::string::npos, ".cls") == 0;
      if (!is_label && !has_image_extension(entry.name)) {
        ++dataset.ignored_files;
        continue;
      }
      Sample& sample = samples[entry.name.substr(0, dot)];
      const Entry*& place = is_label ? sample.label : sample.image;
      if (place) tar.fail(printable(place->name) + " and " + printable(entry.name) + " have the same key");
      place = &entry;
    }
    for (const auto& [key, sample] : samples) {
      if (!sample.image) {
        ++lone_labels;
        continue;
      }
      if (!sample.label) {
        tar.fail(printable(sample.image->name) + " has no " + printable(key) +
                 ".cls beside it that names its class");
      }
      Item item;
      item.path = shard_name + "/" + sample.image->name;
      item.shard = static_cast<int32_t>(shard);
      item.offset = sample.image->offset;
      item.size = sample.image->size;
      dataset.items.push_back(std::move(item));
      labels.push_back(read_label(tar, *sample.label));
    }
  }
  if (dataset.items.empty()) throw InputError(printable(shard_paths[0]) + ": no images in it");
  if (lone_labels > 0) {
    dataset.warnings.push_back(std::to_string(lone_labels) + " .cls entries have no image beside them");
  }
  label_items(dataset, labels);
  finish_dataset(dataset, printable(dataset.root));
  return dataset;
}

}  // namespace cairn::data
