#include "apps/resume_changes.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "kernels/error.h"

namespace cairn::app {
namespace {

// May be chosen anew: the result is the same, or what a step that cannot be taken leaves to choose. The
// data's contents are compared, wherever they lie.
constexpr std::array<std::string_view, 8> kFree{"data",         "cache-file",  "checkpoint-every-steps",
                                                "keep",         "time-limit",  "log-every-steps",
                                                "on-nonfinite", "peer-timeout"};
constexpr std::size_t kMostNamed = 5;

std::string listed(const std::vector<std::string>& names, const std::string& between) {
  std::string text;
  for (std::size_t i = 0; i < std::min(kMostNamed, names.size()); ++i)
    text += (i > 0 ? between : "") + names[i];
  if (names.size() > kMostNamed)
    text += between + "and " + std::to_string(names.size() - kMostNamed) + " more";
  return text;
}

std::vector<std::string> missing_from(const std::vector<std::string>& all,
                                      const std::vector<std::string>& some) {
  std::vector<std::string> missing;
  for (const std::string& name : all)
    if (std::find(some.begin(), some.end(), name) == some.end()) missing.push_back("'" + name + "'");
  return missing;
}

}  // namespace

TrainOptions ResumeChanges::merge(const CLI::App& command, const TrainOptions& given,
                                  const nlohmann::json& of_run) {
  nlohmann::json merged = of_run;
  const nlohmann::json asked = to_json(given);
  for (const auto& [name, value] : asked.items()) {
    const CLI::Option* option = command.get_option_no_throw("--" + name);
    if (!option || option->count() == 0) continue;
    if (name == "precision" && value == "auto") continue;  // was found out when the run began
    if (name == "out") throw InputError("--resume goes on in the run's own directory: leave out --out");
    merged[name] = value;
  }
  TrainOptions options = train_options_from_json(merged);
  options.resolve();
  TrainOptions before = train_options_from_json(of_run);
  before.resolve();
  // As they are after resolve(), so that two spellings of one value are no difference.
  const nlohmann::json now = to_json(options), then = to_json(before);
  for (const auto& [name, value] : now.items())
    if (std::find(kFree.begin(), kFree.end(), name) == kFree.end())
      setting("--" + name, value, then.at(name));
  return options;
}

void ResumeChanges::setting(const std::string& name, const nlohmann::json& now,
                            const nlohmann::json& of_run) {
  if (now != of_run) differences_.push_back(name + " is " + now.dump() + ", the run has " + of_run.dump());
}

void ResumeChanges::classes(const std::vector<std::string>& of_run, const std::vector<std::string>& now) {
  if (of_run == now) return;
  const std::vector<std::string> gone = missing_from(of_run, now), added = missing_from(now, of_run);
  std::string text = "the class list differs: ";
  if (!gone.empty()) text += listed(gone, ", ") + " gone";
  if (!added.empty()) text += (gone.empty() ? "" : "; ") + listed(added, ", ") + " new";
  if (gone.empty() && added.empty()) text += "another order";
  if (of_run.size() != now.size())
    throw InputError(text + ": the model has " + std::to_string(of_run.size()) + " outputs, the data " +
                     std::to_string(now.size()) + " classes; put the folders back, or begin a run anew");
  differences_.push_back(text);
}

void ResumeChanges::data(const std::vector<std::string>& differences) {
  if (differences.empty()) return;
  differences_.push_back((differences.size() == 1
                              ? "one file of the data differs: "
                              : std::to_string(differences.size()) + " files of the data differ: ") +
                         listed(differences, ", "));
}

void ResumeChanges::settle(bool accepted, Console& console) const {
  if (differences_.empty()) return;
  if (!accepted)
    throw InputError("the run was begun otherwise: " + listed(differences_, "; ") +
                     ": put it back, or add --accept-changes to go on all the same");
  for (const std::string& difference : differences_) console.warn("accepted: " + difference);
}

}  // namespace cairn::app
