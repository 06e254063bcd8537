#include "data/cache_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "data/csv.h"
#include "kernels/error.h"

// A page with the magic line and the key, then slots of whole pages: a header, the pixels.
namespace cairn::data {
namespace {

constexpr size_t kPage = 4096;
constexpr char kMagic[] = "cairn decoded images 1\n";
constexpr size_t kHeaderBytes = 64;
constexpr int64_t kSlotsAtOnce = 64;

}  // namespace

struct CacheFile::SlotHeader {
  std::array<char, 32> content_hash;
  uint64_t sum;  // XXH3 of the pixels, seeded by the hash: 0 in an unused slot's header passes no check
  uint64_t ready;
};

CacheFile::CacheFile(std::string path, const std::string& key, int64_t images, size_t image_bytes)
    : path_(std::move(path)),
      image_bytes_(image_bytes),
      stride_((kHeaderBytes + image_bytes + kPage - 1) / kPage * kPage) {
  static_assert(sizeof(SlotHeader) <= kHeaderBytes);
  std::string first(kMagic);
  first += key + "\nbytes " + std::to_string(image_bytes) + "\n";
  if (first.size() > kPage) throw Error("the cache file's key is too long");
  first.resize(kPage, '\0');
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  const auto refuse = [&](const std::string& why) {
    if (file_ >= 0) ::close(file_);
    throw InputError("the cache file " + printable(path_) + " " + why);
  };
  if (file_ < 0) refuse("cannot be opened: " + std::generic_category().message(errno));
  if (::flock(file_, LOCK_EX | LOCK_NB) != 0) refuse("is in use by another run");
  struct stat status {};
  if (::fstat(file_, &status) != 0 || !S_ISREG(status.st_mode)) refuse("is no regular file");
  std::string there(kPage, '\0');
  const ssize_t read = ::pread(file_, there.data(), kPage, 0);
  if (status.st_size > 0 && (read < static_cast<ssize_t>(sizeof kMagic - 1) || !there.starts_with(kMagic)))
    refuse("holds something else: choose another name");
  slots_ = status.st_size > static_cast<off_t>(kPage)
               ? (status.st_size - static_cast<off_t>(kPage)) / static_cast<off_t>(stride_)
               : 0;
  // Slots of images that are gone are never given up one by one; with more of them than of others it begins
  // anew.
  if (there != first || slots_ > 2 * images + kSlotsAtOnce) {
    slots_ = 0;
    if (::ftruncate(file_, 0) != 0 || ::pwrite(file_, first.data(), kPage, 0) != static_cast<ssize_t>(kPage))
      refuse("cannot be written: " + std::generic_category().message(errno));
  }
  most_slots_ = slots_ + images + kSlotsAtOnce;
  void* memory = ::mmap(nullptr, kPage + static_cast<size_t>(most_slots_) * stride_, PROT_READ | PROT_WRITE,
                        MAP_SHARED, file_, 0);
  if (memory == MAP_FAILED) refuse("cannot be mapped: " + std::generic_category().message(errno));
  memory_ = static_cast<uint8_t*>(memory);
  read_slots();
}

CacheFile::~CacheFile() {
  ::munmap(memory_, kPage + static_cast<size_t>(most_slots_) * stride_);
  ::close(file_);
}

CacheFile::SlotHeader* CacheFile::header(int64_t slot) const {
  return reinterpret_cast<SlotHeader*>(memory_ + kPage + static_cast<size_t>(slot) * stride_);
}
uint8_t* CacheFile::pixels(int64_t slot) const {
  return memory_ + kPage + static_cast<size_t>(slot) * stride_ + kHeaderBytes;
}

void CacheFile::read_slots() {
  for (used_ = 0; used_ < slots_ && header(used_)->ready == 1; ++used_) {
    const std::array<char, 32>& hash = header(used_)->content_hash;
    entries_[{hash.data(), hash.size()}] = {used_, false, false};
  }
}

// Room on the disk is taken before it is written to: a write into a mapped hole of a full disk would end the
// process.
bool CacheFile::grow() {
  const int64_t more = std::min(kSlotsAtOnce, most_slots_ - slots_);
  const auto end = static_cast<off_t>(kPage + static_cast<size_t>(slots_) * stride_);
  if (more <= 0 ||
      ::posix_fallocate(file_, end, static_cast<off_t>(static_cast<size_t>(more) * stride_)) != 0)
    return false;
  slots_ += more;
  return true;
}

const uint8_t* CacheFile::get(const std::string& content_hash, const std::function<void(uint8_t*)>& make) {
  if (content_hash.size() != 32) throw Error("a content hash has 32 digits");
  std::unique_lock lock(mutex_);
  while (true) {
    const auto [place, is_new] = entries_.try_emplace(content_hash, Entry{-1, false, false});
    Entry& entry = place->second;  // stays where it is when others come
    if (entry.busy) {
      changed_.wait(lock);
      continue;
    }
    if (entry.usable) return pixels(entry.slot);
    if (entry.slot < 0) {
      if (used_ >= slots_ && !grow()) {
        entries_.erase(place);
        return nullptr;
      }
      entry.slot = used_++;
    }
    entry.busy = true;
    SlotHeader* const head = header(entry.slot);
    uint8_t* const image = pixels(entry.slot);
    lock.unlock();
    const auto sum = [&] {
      return XXH3_64bits_withSeed(image, image_bytes_, XXH3_64bits(content_hash.data(), content_hash.size()));
    };
    bool made = false;
    std::exception_ptr error;
    if (is_new || head->sum != sum()) {
      try {
        make(image);
        std::copy(content_hash.begin(), content_hash.end(), head->content_hash.begin());
        head->sum = sum();
        made = true;
      } catch (...) {
        // The slot keeps this hash with a sum that does not fit, so that it is made anew another time.
        std::copy(content_hash.begin(), content_hash.end(), head->content_hash.begin());
        head->sum = ~sum();
        error = std::current_exception();
      }
      head->ready = 1;
    }
    lock.lock();
    entry.busy = false;
    entry.usable = !error;
    changed_.notify_all();
    if (error) std::rethrow_exception(error);
    ++(made ? made_ : found_);
    return image;
  }
}

}  // namespace cairn::data
