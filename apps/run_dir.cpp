#include "apps/run_dir.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "apps/run_state.h"
#include "data/atomic_file.h"
#include "kernels/error.h"

namespace cairn::app {

namespace fs = std::filesystem;

namespace {

// What a run writes before its first step.
constexpr const char* kWrittenFirst[] = {"config.json", "split.csv", "fixes.csv", "train.log"};

// Nothing in it, or what a run left that failed before its first step (weights that do not fit, a name that
// is none): nobody wants to go on with that.
bool never_trained(const std::string& path) {
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(path, error)) {
    const std::string name = entry.path().filename().string();
    const bool expected =
        name == "lock" || name.starts_with("events.out.tfevents") ||
        (name == "checkpoints" && fs::is_empty(entry.path(), error)) ||
        (name == "metrics.jsonl" && entry.file_size(error) == 0) ||
        std::find(std::begin(kWrittenFirst), std::end(kWrittenFirst), name) != std::end(kWrittenFirst);
    if (!expected || error) return false;
  }
  return !error;
}

}  // namespace

void RunDir::require_free(const std::string& path) {
  std::error_code error;
  if (fs::exists(path, error) && !(fs::is_directory(path, error) && never_trained(path)))
    throw InputError("--out " + path +
                     " is there and not empty: choose another folder, or go on with --resume " + path);
}

RunDir RunDir::create(const std::string& path) {
  require_free(path);
  std::error_code error;
  fs::create_directories(fs::path(path) / "checkpoints", error);
  if (error) throw Error("cannot make the run directory " + path + ": " + error.message());
  RunDir run(path);
  run.lock_ = std::make_shared<RunLock>(path);
  // Another process may have found the folder free at the same moment, and be done already.
  if (!never_trained(path)) throw InputError("--out " + path + " has just been used by another run");
  for (const char* name : kWrittenFirst) fs::remove(fs::path(path) / name, error);
  return run;
}

RunDir RunDir::open(const std::string& path) {
  RunDir run(path);
  std::error_code error;
  if (!fs::exists(path, error))
    throw InputError(path + ": no such folder (a run directory, as `cairn train` made it)");
  if (!fs::exists(run.config(), error))
    throw InputError(path + " is no run directory: it has no config.json");
  return run;
}

RunDir RunDir::open_to_resume(const std::string& path) {
  RunDir run = open(path);
  run.lock_ = std::make_shared<RunLock>(path);
  remove_unfinished_files(run);
  return run;
}

void RunDir::write_config(const TrainOptions& options, const ModelCard& card,
                          const nlohmann::json& extra) const {
  nlohmann::json config = extra;
  config["version"] = CAIRN_VERSION;
  config["options"] = to_json(options);
  config["card"] = card_metadata(card);
  std::error_code error;
  config["data_path"] = fs::absolute(options.data, error).string();
  data::write_file_atomically(RunDir::config(), config.dump(2) + "\n");
}

nlohmann::json RunDir::read_config() const {
  std::ifstream file(config());
  try {
    return nlohmann::json::parse(file);
  } catch (const nlohmann::json::exception&) {
    throw InputError(config() + " is damaged: no JSON, or not all of it");
  }
}

TrainOptions RunDir::options() const {
  const nlohmann::json config = read_config();
  if (!config.is_object() || !config.contains("options"))
    throw InputError(RunDir::config() + " is damaged: it has no 'options'");
  TrainOptions options = train_options_from_json(config["options"]);
  // A relative path was meant from the folder where training began.
  std::error_code error;
  const nlohmann::json data_path = config.value("data_path", nlohmann::json(""));
  const std::string path = data_path.is_string() ? data_path.get<std::string>() : "";
  if (!path.empty() && !fs::exists(options.data, error) && fs::exists(path, error)) options.data = path;
  return options;
}

ModelCard RunDir::card() const {
  const nlohmann::json config = read_config();
  ModelCard card;
  try {
    read_card(config.at("card").get<io::Metadata>(), RunDir::config(), card);
  } catch (const nlohmann::json::exception&) {
    throw InputError(RunDir::config() + " is damaged: it has no 'card'");
  }
  if (card.model.empty() || card.classes.empty())
    throw InputError(RunDir::config() + " is damaged: its 'card' names no model or no classes");
  return card;
}

nlohmann::json RunDir::environment() const {
  nlohmann::json config = read_config();
  config.erase("options");
  config.erase("card");
  config.erase("data_path");
  return config;
}

std::vector<nlohmann::json> RunDir::epochs() const {
  std::vector<nlohmann::json> entries;
  std::ifstream file(metrics());
  for (std::string line; std::getline(file, line);) {
    nlohmann::json entry = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (entry.is_object() && entry.value("kind", "") == "epoch") entries.push_back(std::move(entry));
  }
  return entries;
}

void RunDir::cut_metrics(std::int64_t steps) const {
  std::ifstream file(metrics());
  std::string kept;
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json entry = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (entry.is_object() && entry.value("step", steps + 1) <= steps) kept += line + "\n";
  }
  data::write_file_atomically(metrics(), kept);
}

}  // namespace cairn::app
