#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/allocator.h"

namespace cairn {

/// While it lives, what this thread's ops would do on a device is walked through but not done: memory is
/// handed out by the rules of the caching allocator without being there, kernels are asked for their
/// workspace and not run, copies are left out. What a step takes is known so before it takes it. Whatever
/// reads a value on the host throws Error, since there is none. Tensors made meanwhile must not be used
/// afterwards.
class DryRun {
 public:
  explicit DryRun(Device device);
  ~DryRun();
  DryRun(const DryRun&) = delete;
  DryRun& operator=(const DryRun&) = delete;
  /// This thread's; null outside one.
  static DryRun* current();

  enum class Kind : std::uint8_t { tensor, workspace };
  /// For Storage. Memory of another device is not counted.
  void* allocate(std::size_t bytes, Device device);
  /// For Storage: false for memory that is no dry run's.
  static bool release(void* memory) noexcept;
  /// What is allocated from now on belongs to `label`, and to "" after label_new() has named what was
  /// allocated since the last call of either.
  void begin_label(std::string label) { label_ = std::move(label); }
  void label_new(const std::string& label);
  /// Of the next allocation alone.
  void next_is(Kind kind) { kind_ = kind; }

  /// Memory in use at the moment of its peak, in bytes as the device gives them out.
  struct Holder {
    std::string label;
    Kind kind = Kind::tensor;
    std::int64_t bytes = 0;
  };
  /// By label, the largest first.
  std::vector<Holder> peak_holders() const;
  /// in_use, peak and reserved (what is kept for reuse counts), as if the cache had been empty before.
  MemoryStats stats() const { return allocator_.stats(); }

 private:
  struct Block {
    std::string label;
    Kind kind = Kind::tensor;
    std::int64_t bytes = 0;
    bool live = true;
  };
  Device device_;
  DryRun* before_;
  CachingAllocator allocator_;
  std::string label_;
  Kind kind_ = Kind::tensor;
  std::vector<Block> blocks_;
  std::size_t labelled_ = 0;  // blocks that have a name
  std::unordered_map<void*, std::size_t> live_;
  std::int64_t peak_ = 0;
  std::vector<std::size_t> at_peak_;
};

}  // namespace cairn
