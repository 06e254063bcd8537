#pragma once
#include "kernels/cuda/plan_cache.h"

namespace cairn::kernels::cudnn {

/// The graphs that serve conv.h's arguments. 16-bit tensors of one group get their input channels padded to a
/// multiple of 8 (3 to 8 in a network's first layer), without which cuDNN transposes them in some 200 MB of
/// workspace; x and w then stand here as padded. fp32 is never padded: that made it worse.
ConvGraph graph_of(const Conv2dForward& a, bool tf32);
ConvGraph graph_of(const Conv2dBackwardData& a, bool tf32);
ConvGraph graph_of(const Conv2dBackwardWeight& a, bool tf32);

/// Hits and misses of a device's plans in memory.
CacheCounts plan_counts(int device_index);

}  // namespace cairn::kernels::cudnn
