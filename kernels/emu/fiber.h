#pragma once
/// Stacks that emulated threads run on, and the switch between them.
#include <cstddef>
#include <vector>

namespace cairn::emu {

/// 64 KiB holds any kernel whose locals would fit a device's registers and modest local arrays; the page
/// below faults.
inline constexpr std::size_t kFiberStackBytes = 64 * 1024;

struct Thread;

struct Fiber {
  void* stack_pointer = nullptr;  // while switched away
  char* stack = nullptr;          // lowest usable byte
  Thread* job = nullptr;          // what to start when it is switched to afresh
  void* sanitizer_stack = nullptr;

  bool contains(const void* p) const {
    const auto* at = static_cast<const char*>(p);
    return at >= stack && at < stack + kFiberStackBytes;
  }
};

/// The operating-system thread's own stack, seen as a fiber, and a pool of others that run `entry`.
class FiberPool {
 public:
  explicit FiberPool(void (*entry)()) : entry_(entry) {}
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;
  ~FiberPool();

  Fiber* acquire();
  void release(Fiber* fiber) { free_.push_back(fiber); }
  /// Makes the fiber begin at `entry` again when it is next switched to: its frames are forgotten.
  void reset(Fiber* fiber) const;
  /// Whose stack, or whose guard page below it, holds `p`; null if none.
  const Fiber* find(const void* p) const;

 private:
  void (*entry_)();
  std::vector<Fiber*> all_;
  std::vector<Fiber*> free_;
};

/// Saves the running context in `from` and goes on in `to`.
void switch_fiber(Fiber* from, Fiber* to);
/// To be called first in `entry`.
void fiber_started();

}  // namespace cairn::emu
