#include "kernels/emu/fault.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <mutex>

#include "kernels/emu/checks.h"
#include "kernels/emu/heap.h"
#include "kernels/emu/report.h"
#include "kernels/emu/worker.h"

namespace cairn::emu {
namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE};
struct sigaction previous[3];
constexpr std::size_t kStackBytes = 256 * 1024;  // reports look up source lines

void abandon_here() { this_worker().abandon_thread(); }

/// Lets the context go on in abandon_here, on the fiber's stack from its top: the thread's frames are
/// forgotten.
void leave_thread(ucontext_t& context, const Fiber& fiber) {
  auto top = reinterpret_cast<std::uintptr_t>(fiber.stack + kFiberStackBytes) - 128;
  top = top / 16 * 16 - 8;  // as after a call
  context.uc_mcontext.gregs[REG_RSP] = static_cast<greg_t>(top);
  context.uc_mcontext.gregs[REG_RIP] = reinterpret_cast<greg_t>(&abandon_here);
}

void hand_on(int signal, siginfo_t* info, void* context) {
  for (std::size_t i = 0; i < std::size(kSignals); ++i) {
    if (kSignals[i] != signal) continue;
    const struct sigaction& old = previous[i];
    if (old.sa_flags & SA_SIGINFO) {
      old.sa_sigaction(signal, info, context);
    } else if (old.sa_handler == SIG_DFL || old.sa_handler == SIG_IGN) {
      ::signal(signal, SIG_DFL);  // the instruction runs again and ends the process, with a core if wanted
    } else {
      old.sa_handler(signal);
    }
  }
}

void on_fault(int signal, siginfo_t* info, void* raw) {
  Worker* w = kernel_worker();
  if (!w) return hand_on(signal, info, raw);
  auto& context = *static_cast<ucontext_t*>(raw);
  const auto pc = static_cast<std::uintptr_t>(context.uc_mcontext.gregs[REG_RIP]);
  const Fiber& fiber = *w->current->fiber;
  if (signal == SIGFPE) {
    add_report(
        {.defect = Defect::arithmetic, .location = source_line(pc), .message = "integer division by zero"});
    return leave_thread(context, fiber);
  }
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  const bool write = context.uc_mcontext.gregs[REG_ERR] & 2;
  const bool general_protection = info->si_code == SI_KERNEL;  // x86 then gives no address
  if (!general_protection && in_heap(address)) {
    if (!(w->grid->checked && already_checked(address))) {
      const AddressFacts facts = describe_address(address);
      add_report({.defect = facts.freed ? Defect::use_after_free : Defect::out_of_bounds,
                  .location = source_line(pc),
                  .message = std::string(write ? "write of " : "read of ") + facts.text});
    }
    if (open_page(address)) return;
  }
  Report report{.defect = Defect::invalid_address, .location = source_line(pc)};
  char text[64];
  std::snprintf(text, sizeof text, "%s at 0x%zx", write ? "write" : "read",
                static_cast<std::size_t>(address));
  report.message = text;
  if (general_protection) {
    report.defect = Defect::misaligned;
    report.message =
        "vector access at an address that is not a multiple of its size, or an address out of range";
  } else if (address < kPageBytes) {
    report.message = "null pointer, " + report.message;
  } else if (const Fiber* f = w->fibers.find(info->si_addr); f && !f->contains(info->si_addr)) {
    report.message =
        "local variables need more than " + std::to_string(kFiberStackBytes / 1024) + " KiB of stack";
  } else if (in_heap(address)) {
    report.message = "cannot open the page, " + report.message;
  }
  add_report(std::move(report));
  leave_thread(context, fiber);
}

}  // namespace

void install_fault_stack() {
  struct FaultStack {
    FaultStack() {
      stack.ss_size = kStackBytes;
      stack.ss_sp = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (stack.ss_sp != MAP_FAILED) sigaltstack(&stack, nullptr);
    }
    ~FaultStack() {
      if (stack.ss_sp == MAP_FAILED) return;
      const stack_t none{.ss_sp = nullptr, .ss_flags = SS_DISABLE, .ss_size = 0};
      sigaltstack(&none, nullptr);
      munmap(stack.ss_sp, kStackBytes);
    }
    stack_t stack{};
  };
  thread_local const FaultStack installed;
}

void install_fault_handler() {
  install_fault_stack();
  static std::once_flag once;
  std::call_once(once, [] {
    for (std::size_t i = 0; i < std::size(kSignals); ++i) {
      struct sigaction action {};
      action.sa_sigaction = &on_fault;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
      sigemptyset(&action.sa_mask);
      sigaction(kSignals[i], &action, &previous[i]);
    }
  });
}

}  // namespace cairn::emu
