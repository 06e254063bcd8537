#include "kernels/emu/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#error "the emulated device switches stacks with x86-64 assembly"
#endif

// Saves the six registers that a callee keeps (System V ABI); the signal mask and floating-point modes are
// the same for all fibers. ucontext costs fifteen times as much, for saving the signal mask.
asm(R"(
.text
.globl cairn_emu_switch
.hidden cairn_emu_switch
.type cairn_emu_switch,@function
.align 16
cairn_emu_switch:
  .cfi_startproc
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .cfi_endproc
.size cairn_emu_switch,.-cairn_emu_switch
)");
extern "C" void cairn_emu_switch(void** save, void* load);

namespace cairn::emu {
namespace {

constexpr std::size_t kGuardBytes = 4096;

#if defined(__SANITIZE_ADDRESS__)

void stack_of(const Fiber* fiber, const void** bottom, std::size_t* bytes) {
  if (fiber->stack) {
    *bottom = fiber->stack;
    *bytes = kFiberStackBytes;
    return;
  }
  pthread_attr_t attributes;
  void* low = nullptr;
  pthread_getattr_np(pthread_self(), &attributes);
  pthread_attr_getstack(&attributes, &low, bytes);
  pthread_attr_destroy(&attributes);
  *bottom = low;
}
#endif

}  // namespace

FiberPool::~FiberPool() {
  for (Fiber* f : all_) {
    munmap(f->stack - kGuardBytes, kFiberStackBytes + kGuardBytes);
    delete f;
  }
}

Fiber* FiberPool::acquire() {
  if (!free_.empty()) {
    Fiber* f = free_.back();
    free_.pop_back();
    return f;
  }
  void* memory = mmap(nullptr, kFiberStackBytes + kGuardBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  auto* f = new Fiber;
  f->stack = static_cast<char*>(memory) + kGuardBytes;
  all_.push_back(f);
  reset(f);
  return f;
}

void FiberPool::reset(Fiber* fiber) const {
  // Tops are staggered: stacks all aligned alike would fight for the same sets of the cache.
  const std::size_t stagger = (reinterpret_cast<std::uintptr_t>(fiber->stack) / kFiberStackBytes % 16) * 192;
  auto* top = reinterpret_cast<void**>(fiber->stack + kFiberStackBytes - stagger - 64);
  // What the switch pops: six registers, then the entry as return address. The ABI wants the stack 16-aligned
  // before a call, so 8 off at the entry's first instruction.
  top -= 8;
  for (int i = 0; i < 6; ++i) top[i] = nullptr;
  top[6] = reinterpret_cast<void*>(entry_);
  top[7] = nullptr;
  fiber->stack_pointer = top;
}

const Fiber* FiberPool::find(const void* p) const {
  const auto* at = static_cast<const char*>(p);
  for (const Fiber* f : all_)
    if (at >= f->stack - kGuardBytes && at < f->stack + kFiberStackBytes) return f;
  return nullptr;
}

#if defined(__SANITIZE_ADDRESS__)
void switch_fiber(Fiber* from, Fiber* to) {
  const void* bottom = nullptr;
  std::size_t bytes = 0;
  stack_of(to, &bottom, &bytes);
  __sanitizer_start_switch_fiber(&from->sanitizer_stack, bottom, bytes);
  cairn_emu_switch(&from->stack_pointer, to->stack_pointer);
  __sanitizer_finish_switch_fiber(from->sanitizer_stack, nullptr, nullptr);
}
void fiber_started() { __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr); }
#else
void switch_fiber(Fiber* from, Fiber* to) { cairn_emu_switch(&from->stack_pointer, to->stack_pointer); }
void fiber_started() {}
#endif

}  // namespace cairn::emu
