// Compiled into every kernel library: makes it known to the emulated device. A plain library that holds
// nothing but kernels has its shared memory as its thread-local segment, and nothing else in there but this
// anchor.
#include "kernels/emu/symbols.h"

namespace {

thread_local int anchor_variable = 0;

[[gnu::no_sanitize("thread")]] void* anchor() { return &anchor_variable; }

struct Registration {
#if defined(CAIRN_EMU_CHECKED)
  Registration() { cairn_emu_register_library(&anchor, 1); }
#else
  Registration() { cairn_emu_register_library(&anchor, 0); }
#endif
  ~Registration() { cairn_emu_unregister_library(&anchor); }
};
const Registration registration;

}  // namespace
