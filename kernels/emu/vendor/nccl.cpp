// The stand-in for NCCL, whole: what kernels/cuda/nccl.cpp calls of it. Ranks are processes of one machine,
// or threads of one process with a device each; what they exchange goes through a file without a name, by
// offsets.
//
// A sum is two operations of the stream that it is given. The first takes this rank's values and leaves NaN
// in their place; the second may run once the values of all ranks are there, and nothing waits for it but
// what streams and events put behind it. So work that the program has ordered before neither may run between
// the two, as beside NCCL's kernel. Added in double in the order of ranks and rounded once: the same bits on
// all.
#include <fcntl.h>
#include <nccl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "kernels/emu/emu.h"
#include "kernels/emu/ledger.h"
#include "kernels/emu/report.h"
#include "kernels/emu/runtime.h"

namespace {
using namespace cairn::emu;

constexpr auto kPause = std::chrono::milliseconds(1);
constexpr auto kJoinTime = std::chrono::seconds(60);

thread_local std::string last_error;

ncclResult_t fail(ncclResult_t result, const std::string& text) {
  last_error = text;
  return result;
}

std::size_t size_of(ncclDataType_t type) { return type == ncclDouble ? sizeof(double) : sizeof(float); }

// ---- the file: a record of each rank, and two slots for each rank's values ----

struct Member {
  std::int32_t joined, world, pid, device;
};
struct Announcement {
  std::uint64_t sequence, count;
  std::int32_t type;
};
constexpr off_t kMember = 64, kSlots = off_t{1} << 20;
constexpr off_t kSlot = off_t{1} << 33;  // bytes; only what is written takes space
constexpr off_t kValues = 4096;          // within a slot
constexpr int kMostRanks = kSlots / kMember;
off_t left_at(int rank) { return rank * kMember + off_t{sizeof(Member)}; }

class Group {
 public:
  Group(const char* path, int rank, int world, int device) : path_(path), rank_(rank), world_(world) {
    file_ = open(path, O_RDWR | O_CLOEXEC);
    if (file_ < 0) throw std::runtime_error("cannot open " + path_ + ": " + std::strerror(errno));
    if (read<Member>(rank * kMember).joined) throw std::runtime_error("another process is this rank");
    if (!write(rank * kMember, Member{1, world, getpid(), device}))
      throw std::runtime_error("cannot write " + path_ + ": " + std::strerror(errno));
  }
  ~Group() { close(file_); }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  /// Returns once all ranks have joined.
  void meet() {
    const auto until = std::chrono::steady_clock::now() + kJoinTime;
    std::vector<Member> members;
    for (int r = 0; r < world_;) {
      const auto m = read<Member>(r * kMember);
      if (m.joined) {
        members.push_back(m);
        ++r;
      } else if (std::chrono::steady_clock::now() > until) {
        throw std::runtime_error("rank " + std::to_string(r) + " did not join");
      } else {
        std::this_thread::sleep_for(kPause);
      }
    }
    if (rank_ == 0) std::filesystem::remove(path_);  // all hold it
    for (int r = 0; r < world_; ++r) {
      const auto& [joined, world, pid, device] = members[static_cast<std::size_t>(r)];
      if (world != world_)
        throw std::invalid_argument("rank " + std::to_string(r) + " takes the group for " +
                                    std::to_string(world) + " ranks");
      for (int other = 0; other < r; ++other)
        if (const Member& m = members[static_cast<std::size_t>(other)]; m.pid == pid && m.device == device)
          throw std::invalid_argument("Duplicate GPU detected: rank " + std::to_string(other) + " and rank " +
                                      std::to_string(r) + " both on device " + std::to_string(device));
    }
  }
  /// Returns once all ranks leave, as NCCL's do on one machine.
  void leave() {
    write(left_at(rank_), std::int32_t{1});
    for (int r = 0; r < world_;) {
      if (read<std::int32_t>(left_at(r)))
        ++r;
      else
        std::this_thread::sleep_for(kPause);
    }
  }
  /// What is queued comes to nothing, and waits for nobody.
  void abort() {
    write(left_at(rank_), std::int32_t{1});
    gone_ = true;
  }

  /// Whether what was given before is through.
  bool idle() const { return gone_ || received_ == published_; }
  void publish(const void* from, void* to, std::size_t count, ncclDataType_t type) {
    if (gone_) return;
    const std::size_t bytes = count * size_of(type);
    values_.resize(bytes);
    device_read(values_.data(), from, bytes);
    device_fill(to, 0xFF, bytes);
    // The slot is free: this rank has had all sums but the last, and nobody takes part in one before it has
    // the values of the one before.
    const off_t slot = slot_of(rank_, ++published_);
    if (!write(slot + kValues, values_.data(), bytes) || !write(slot, Announcement{published_, count, type}))
      give_up("cannot write " + path_ + ": " + std::strerror(errno));
  }
  /// Whether all ranks have published.
  bool complete() const {
    if (gone_) return true;
    for (int r = 0; r < world_; ++r)
      if (read<Announcement>(slot_of(r, published_)).sequence != published_) return false;
    return true;
  }
  void receive(void* to, std::size_t count, ncclDataType_t type) {
    if (gone_) return;
    received_ = published_;
    for (int r = 0; r < world_; ++r) {
      const auto theirs = read<Announcement>(slot_of(r, published_));
      if (theirs.count == count && theirs.type == type) continue;
      return give_up("rank " + std::to_string(rank_) + " sums " + std::to_string(count) + " values of type " +
                     std::to_string(type) + ", rank " + std::to_string(r) + " " +
                     std::to_string(theirs.count) + " of type " + std::to_string(theirs.type));
    }
    if (!note_library_call("sum of " + std::to_string(count) + " values over " + std::to_string(world_),
                           static_cast<std::int64_t>(count * size_of(type)),
                           static_cast<std::int64_t>(count * size_of(type)),
                           static_cast<double>(count) * (world_ - 1)))
      return device_fill(to, 0, count * size_of(type));
    if (type == ncclDouble)
      add_up<double>(to, count);
    else
      add_up<float>(to, count);
  }

 private:
  static off_t slot_of(int rank, std::uint64_t sequence) {
    return kSlots + (2 * rank + static_cast<off_t>(sequence % 2)) * kSlot;
  }
  template <class T>
  void add_up(void* to, std::size_t count) {
    std::vector<double> sum(count);
    std::vector<T> theirs(count);
    for (int r = 0; r < world_; ++r) {
      if (!read(slot_of(r, published_) + kValues, theirs.data(), count * sizeof(T)))
        return give_up("cannot read " + path_);
      for (std::size_t i = 0; i < count; ++i) sum[i] += static_cast<double>(theirs[i]);
    }
    for (std::size_t i = 0; i < count; ++i) theirs[i] = static_cast<T>(sum[i]);
    device_write(to, theirs.data(), count * sizeof(T));
  }

  // As a fault on the device: from the next call that waits.
  void give_up(const std::string& why) {
    gone_ = true;
    add_report({.defect = Defect::invalid_address, .message = "ncclAllReduce: " + why});
  }

  // A file's end reads as zeros: nobody has written there.
  template <class T>
  T read(off_t at) const {
    T value{};
    read(at, &value, sizeof value);
    return value;
  }
  bool read(off_t at, void* to, std::size_t bytes) const {
    for (std::size_t done = 0; done < bytes;) {
      const ssize_t n =
          pread(file_, static_cast<char*>(to) + done, bytes - done, at + static_cast<off_t>(done));
      if (n <= 0) return false;
      done += static_cast<std::size_t>(n);
    }
    return true;
  }
  template <class T>
  bool write(off_t at, const T& value) {
    return write(at, &value, sizeof value);
  }
  bool write(off_t at, const void* from, std::size_t bytes) {
    for (std::size_t done = 0; done < bytes;) {
      const ssize_t n =
          pwrite(file_, static_cast<const char*>(from) + done, bytes - done, at + static_cast<off_t>(done));
      if (n < 0) return false;
      done += static_cast<std::size_t>(n);
    }
    return true;
  }

  std::string path_;
  int file_ = -1, rank_, world_;
  std::atomic<bool> gone_ = false;
  std::uint64_t published_ = 0, received_ = 0;
  std::vector<char> values_;
};

}  // namespace

struct ncclComm {
  std::shared_ptr<Group> group;  // queued work and graphs hold it too
};

extern "C" {

ncclResult_t ncclGetVersion(int* version) {
  *version = NCCL_VERSION_CODE;
  return ncclSuccess;
}
const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    default:
      return "unknown result code";
  }
}
const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::string path = (std::filesystem::temp_directory_path() / "cairn-emulated-nccl-XXXXXX").string();
  if (path.size() >= sizeof id->internal) return fail(ncclSystemError, "TMPDIR is too long: " + path);
  const int file = mkostemp(path.data(), O_CLOEXEC);
  if (file < 0) return fail(ncclSystemError, "cannot make " + path + ": " + std::strerror(errno));
  close(file);
  std::memset(id, 0, sizeof *id);
  std::memcpy(id->internal, path.data(), path.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int world, ncclUniqueId id, int rank) {
  *comm = nullptr;
  if (world < 1 || world > kMostRanks || rank < 0 || rank >= world)
    return fail(ncclInvalidArgument,
                "rank " + std::to_string(rank) + " of " + std::to_string(world) + " ranks is none");
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return fail(ncclUnhandledCudaError, "no device is chosen");
  try {
    auto group = std::make_shared<Group>(id.internal, rank, world, device);
    group->meet();
    *comm = new ncclComm{std::move(group)};
    return ncclSuccess;
  } catch (const std::invalid_argument& e) {
    return fail(ncclInvalidUsage, e.what());
  } catch (const std::exception& e) {
    return fail(ncclSystemError, e.what());
  }
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  comm->group->leave();
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  comm->group->abort();
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void* from, void* to, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream) {
  if ((type != ncclFloat && type != ncclDouble) || op != ncclSum)
    return fail(ncclInvalidArgument, "the emulated device sums fp32 and fp64");
  if (count == 0) return ncclSuccess;
  const std::size_t bytes = count * size_of(type);
  if (bytes > static_cast<std::size_t>(kSlot - kValues))
    return fail(ncclInvalidArgument, std::to_string(bytes) + " bytes are more than the emulated device sums");
  for (const void* p : {from, static_cast<const void*>(to)})
    if (!device_range_valid(p, bytes))
      return fail(ncclInvalidArgument, std::to_string(bytes) + " bytes do not lie in one piece of memory");
  const auto group = comm->group;
  const cudaError_t taken = enqueue_library_call(
      stream, "ncclAllReduce", [=] { group->publish(from, to, count, type); },
      [group] { return group->idle(); });
  const cudaError_t summed = taken != cudaSuccess
                                 ? taken
                                 : enqueue_library_call(
                                       stream, "ncclAllReduce: sum", [=] { group->receive(to, count, type); },
                                       [group] { return group->complete(); });
  if (summed != cudaSuccess) return fail(ncclUnhandledCudaError, cudaGetErrorString(summed));
  return ncclSuccess;
}

}  // extern "C"
