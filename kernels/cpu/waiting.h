#pragma once

namespace cairn::kernels {

/// How long OpenMP's threads turn in a loop at a barrier before they sleep, in libgomp's counts
/// (GOMP_SPINCOUNT). By itself libgomp turns for milliseconds: with other programs busy on the cores, the
/// thread that waits keeps the one it waits for from running.
inline constexpr char kSpinCount[] = "10000";

/// Call first thing in main(), with its arguments. libgomp reads its settings once, when it is loaded, so the
/// program is started anew (execve, the same process) with GOMP_SPINCOUNT set; returns in the new one.
/// Returns at once where the environment says GOMP_SPINCOUNT or OMP_WAIT_POLICY already, and where starting
/// fails.
void adopt_short_waits(char** argv);

}  // namespace cairn::kernels
