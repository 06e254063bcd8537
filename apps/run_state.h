#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/console.h"
#include "apps/run_dir.h"

namespace cairn::app {

/// An older state, checkpoints/state-STEP.state.
struct OlderState {
  std::int64_t step = 0;
  std::string path;
};
/// The newest first.
std::vector<OlderState> older_states(const RunDir& run);

/// A state that can be gone on with.
struct FoundState {
  std::string path;
  nlohmann::json progress;
};
/// last.state or, where that is damaged, the newest older one that is whole; a warning names each that was
/// passed over. Throws InputError where there is none.
FoundState find_state(const RunDir& run, Console& console);

/// Before last.state is replaced: makes it, the state of `step`, an older one. Where there is no hard link,
/// it is renamed.
void keep_as_older(const RunDir& run, std::int64_t step);
/// Removes all but the `keep` newest of those older than `last_step`, and those that are not older.
void remove_old_states(const RunDir& run, std::int64_t keep, std::int64_t last_step);

/// Removes what a process that was killed left half-written. Only under the run's lock.
void remove_unfinished_files(const RunDir& run);

}  // namespace cairn::app
