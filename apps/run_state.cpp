#include "apps/run_state.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <system_error>

#include "engine/io/checkpoint.h"
#include "kernels/atomic_file.h"
#include "kernels/error.h"

namespace cairn::app {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "state-";
constexpr std::string_view kSuffix = ".state";

std::string older_path(const RunDir& run, std::int64_t step) {
  return run.checkpoints() + "/" + std::string(kPrefix) + std::to_string(step) + std::string(kSuffix);
}

// The step in "state-STEP.state"; -1 for another name.
std::int64_t step_of(std::string_view name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix) ||
      name.size() <= kPrefix.size() + kSuffix.size())
    return -1;
  const std::string_view digits = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
  std::int64_t step = -1;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), step);
  return parsed.ec == std::errc() && parsed.ptr == digits.data() + digits.size() ? step : -1;
}

std::vector<fs::path> files_in(const std::string& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    files.push_back(entry->path());
  return files;
}

}  // namespace

std::vector<OlderState> older_states(const RunDir& run) {
  std::vector<OlderState> states;
  for (const fs::path& path : files_in(run.checkpoints()))
    if (const std::int64_t step = step_of(path.filename().string()); step >= 0)
      states.push_back({step, path.string()});
  std::sort(states.begin(), states.end(),
            [](const OlderState& a, const OlderState& b) { return a.step > b.step; });
  return states;
}

FoundState find_state(const RunDir& run, Console& console) {
  std::vector<std::string> paths;
  std::error_code error;
  if (fs::exists(run.state(), error)) paths.push_back(run.state());
  for (const OlderState& state : older_states(run)) paths.push_back(state.path);
  if (paths.empty())
    throw InputError(run.path() +
                     " holds no saved state: it stopped before its first; begin anew with --out");
  std::vector<std::string> damaged;
  for (const std::string& path : paths) {
    try {
      FoundState found{path, nlohmann::json::parse(io::read_progress(path))};
      for (const std::string& why : damaged) console.warn(why);
      if (!damaged.empty()) console.warn("going on from the state before: " + path);
      return found;
    } catch (const InputError& why) {
      damaged.emplace_back(why.what());
    } catch (const nlohmann::json::exception&) {
      damaged.push_back(path + ": does not hold a run's state");
    }
  }
  throw InputError(damaged.front() +
                   (damaged.size() > 1 ? "; so are the " + std::to_string(damaged.size() - 1) + " before it"
                                       : "; there is no older one"));
}

void keep_as_older(const RunDir& run, std::int64_t step) {
  const std::string older = older_path(run, step);
  std::error_code error;
  if (fs::equivalent(run.state(), older, error)) return;
  fs::remove(older, error);
  if (::link(run.state().c_str(), older.c_str()) == 0) return;
  fs::rename(run.state(), older, error);
  if (error) throw Error("cannot keep " + run.state() + " as " + older + ": " + error.message());
}

void remove_old_states(const RunDir& run, std::int64_t keep, std::int64_t last_step) {
  for (const OlderState& state : older_states(run)) {
    if (state.step < last_step && keep-- > 0) continue;
    std::error_code error;
    fs::remove(state.path, error);  // what stays is in nobody's way
  }
}

void remove_unfinished_files(const RunDir& run) {
  for (const std::string& folder : {run.path(), run.checkpoints()})
    for (const fs::path& path : files_in(folder))
      if (is_unfinished_file(path.filename().string())) {
        std::error_code error;
        fs::remove(path, error);
      }
}

}  // namespace cairn::app
