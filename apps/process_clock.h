#pragma once

namespace cairn::app {

/// From the kernel's start time of this process: a clock of our own would miss the loading of libraries.
double seconds_since_process_start();
/// Of the calendar, since 1970.
double wall_seconds();

}  // namespace cairn::app
