#pragma once

namespace cairn::emu {

/// Turns faults of emulated threads into reports: the page behind an allocation is opened and the kernel goes
/// on; a thread that used an impossible address, divided by zero or overflowed its stack ends there. Faults
/// of other code go to the handler there was before. Idempotent.
void install_fault_handler();
/// The handler needs a stack of its own on each operating-system thread.
void install_fault_stack();

}  // namespace cairn::emu
