#pragma once
/// Collects what the checks find.
#include <cstdint>
#include <string>

#include "kernels/emu/emu.h"

namespace cairn::emu {

/// Adds the report, or counts it if the same defect at the same places in the same kernel is there already.
/// Kernel, block and thread are filled in from what runs, unless given; `message` is completed with them.
void add_report(Report report);
/// Whether this pair of instructions has been reported with this defect since reports were last taken; if so
/// it is counted. Cheap, so that a wrong access in a loop does not spend its time on texts.
bool count_repeated(Defect defect, std::uintptr_t pc, std::uintptr_t other_pc);
/// As add_report; later count_repeated calls for these instructions are true.
void add_report(Report report, std::uintptr_t pc, std::uintptr_t other_pc);

std::string text_of(uint3 index);

}  // namespace cairn::emu
