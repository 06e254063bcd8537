#pragma once
#include <string>
#include <vector>

#include "tests/emu/ledger/step_ledger.h"

namespace cairn {

struct StepHeld {
  StepLedger ledger;
  std::int64_t at_32 = 0, at_256 = 0;  // bytes of the device, memory_held()
};
/// docs/ledger.md
std::string ledger_page(const std::vector<StepHeld>& steps);

}  // namespace cairn
