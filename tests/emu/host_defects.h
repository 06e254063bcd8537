#pragma once
#include <span>

#include "kernels/dispatch.h"

namespace cairn::kernels {

/// A known mistake of the host: launches, copies and memory that do not fit together. In host_defects.cu the
/// kernel's line that a report must name carries the comment "DEFECT name"; a launch that is refused has
/// none.
struct HostMistake {
  const char* name;
  const char* kernel;  // that the report names
  Status (*run)(bool wrong);
};
std::span<const HostMistake> host_mistakes();

}  // namespace cairn::kernels
