#pragma once
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>

namespace cairn::data {

/// Decoded and resized images in a file, for later runs: found by the content of the image file that they
/// were made of, and checked by a sum of their pixels before they are first used, so that neither a changed
/// image nor a crash in mid-write nor a damaged disk shows. Safe from several threads; one process at a time.
class CacheFile {
 public:
  /// Opens or makes it. `key` says how the pixels were made (decoder's version, size, ...): a file of another
  /// key or size is emptied. Throws InputError for a file that is none of these, that cannot be written or
  /// that another process uses.
  CacheFile(std::string path, const std::string& key, int64_t images, size_t image_bytes);
  ~CacheFile();
  CacheFile(const CacheFile&) = delete;
  CacheFile& operator=(const CacheFile&) = delete;

  /// The pixels made of the file with this content hash; `make` writes them where they are not there (or
  /// damaged). Null where the disk has no more room. What make throws is passed on.
  const uint8_t* get(const std::string& content_hash, const std::function<void(uint8_t*)>& make);
  /// Images that were found and that had to be made.
  int64_t found() const { return found_; }
  int64_t made() const { return made_; }

 private:
  struct SlotHeader;
  struct Entry {
    int64_t slot;
    bool usable;  // made or checked by this process
    bool busy;    // a thread is at it
  };
  void read_slots();
  SlotHeader* header(int64_t slot) const;
  uint8_t* pixels(int64_t slot) const;
  bool grow();  // mutex held

  std::string path_;
  size_t image_bytes_;
  size_t stride_;
  int64_t most_slots_ = 0;
  int64_t slots_ = 0;  // that the file holds
  int64_t used_ = 0;   // of them
  int file_ = -1;
  uint8_t* memory_ = nullptr;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<std::string, Entry> entries_;
  std::atomic<int64_t> found_{0}, made_{0};
};

}  // namespace cairn::data
