// --config, the man page and the completions: what a person gets of each, through the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <regex>

#include "tests/apps/program.h"

namespace cairn::app {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::vector<std::string> kCommands{"train",  "evaluate", "find-lr", "predict", "serve",
                                         "export", "split",    "inspect", "new-op",  "doctor"};

class ConfigFile : public testing::Test {
 protected:
  std::string config(const std::string& text) {
    folder_.write("c.toml", text);
    return folder_.path("c.toml");
  }
  void refused(const std::string& text, const std::string& says,
               const std::string& command = "split x --out y") {
    const Outcome o = cairn(command + " --config " + config(text));
    EXPECT_EQ(o.status, 2) << text;
    EXPECT_EQ(lines_of(o.err).size(), 1U) << o.err;
    EXPECT_THAT(o.err, HasSubstr(says));
  }
  data::TempFolder folder_;
};

TEST_F(ConfigFile, GivesEveryKindOfOptionAndTheCommandLineWins) {
  make_data(folder_, 2, 8);
  const std::string file = config(
      "# one file for several commands\n"
      "device = \"cpu\"\n"
      "[train]\n"
      "data = \"" +
      folder_.path("data") +
      "\"\n"
      "model = 'model_cnn'\n"
      "image-size = 16\n"
      "epochs = 1\n"
      "batch-size = 4\n"
      "lr = 2.5e-3\n"
      "mean = [0.1, 0.2, 0.3]\n"
      "std = 0.25\n"
      "no-shuffle = true\n"
      "nesterov = false\n"
      "freeze = ['features.0.*', 'features.4.bias']\n"
      "quiet = true\n"
      "seed = 11\n"
      "[evaluate]\n"
      "part = 'val'\n");
  const Outcome o = cairn("train --seed 5 --config " + file + " --batch-size=2 --out " + folder_.path("run"));
  ASSERT_EQ(o.status, 0) << o.err;
  const json options = json::parse(read_file(folder_.path("run/config.json")))["options"];
  EXPECT_EQ(options["freeze"], json({"features.0.*", "features.4.bias"}));
  EXPECT_EQ(options["image-size"], 16);
  EXPECT_EQ(options["model"], "model_cnn");
  EXPECT_EQ(options["lr"], 2.5e-3);
  EXPECT_EQ(options["mean"], json({0.1, 0.2, 0.3}));
  EXPECT_EQ(options["std"], json({0.25, 0.25, 0.25}));
  EXPECT_EQ(options["no-shuffle"], true);
  EXPECT_EQ(options["nesterov"], false);
  EXPECT_EQ(options["seed"], 5);
  EXPECT_EQ(options["batch-size"], 2);
  const Outcome val = cairn("evaluate --json --run " + folder_.path("run") + " --config=" + file);
  ASSERT_EQ(val.status, 0) << val.err;
  EXPECT_EQ(json::parse(lines_of(val.out).back())["part"], "val");
}

TEST_F(ConfigFile, WhatIsWrongIsNamed) {
  refused("learning-rate = 1\n", "'learning-rate' is no option of cairn split");
  refused("[split]\nlr = 1\n", "'lr' is no option of cairn split");
  refused("[splt]\nseed = 1\n", "[splt] is no command");
  refused("[split.more]\nseed = 1\n", "is no command");
  refused("seed = 1\nquiet = true\nseed = 2\n", "'seed' stands there twice");
  refused("seed = \"many\"\n", "--seed");
  refused("config = \"other.toml\"\n", "'config' is no option");
  refused("help = true\n", "'help' is no option");
  refused("plugin = ['missing.so']\n", "there is no plugin", "train");
  refused("this is no TOML\n", "is no option");
  refused("", "cannot be read, or is empty");
  const Outcome missing = cairn("doctor --config " + folder_.path("missing.toml"));
  EXPECT_EQ(missing.status, 2);
  EXPECT_THAT(missing.err, HasSubstr("missing.toml: it cannot be read"));
}

TEST_F(ConfigFile, EveryCommandTakesIt) {
  for (const std::string& command : kCommands)
    EXPECT_THAT(cairn(command + " --help").out, HasSubstr("--config FILE")) << command;
}

// The long options that `cairn COMMAND --help` names.
std::vector<std::string> options_of(const std::string& command) {
  const std::string help = cairn(command + " --help").out;
  std::vector<std::string> options;
  const std::regex line("(^|\n) +(?:-h,)?(--[a-z-]+)");
  for (std::sregex_iterator it(help.begin(), help.end(), line), end; it != end; ++it)
    options.push_back((*it)[2]);
  return options;
}

TEST(HelpPages, TheManPageNamesEveryOptionOfTheHelp) {
  const Outcome man = cairn("--man");
  ASSERT_EQ(man.status, 0) << man.err;
  EXPECT_THAT(man.out, testing::StartsWith(".TH CAIRN 1"));
  for (const std::string& command : kCommands) {
    const std::string heading = "\n.SS cairn " + std::regex_replace(command, std::regex("-"), "\\-") + "\n";
    const std::size_t begin = man.out.find(heading);
    ASSERT_NE(begin, std::string::npos) << command;
    const std::string section = man.out.substr(begin, man.out.find("\n.SS ", begin + 5) - begin);
    const std::vector<std::string> options = options_of(command);
    EXPECT_GE(options.size(), 3U) << command;
    for (const std::string& option : options)
      EXPECT_THAT(section, HasSubstr(std::regex_replace(option, std::regex("-"), "\\-"))) << command;
  }
}

TEST(HelpPages, FitATerminalAndSayWhatIsChosen) {
  for (const std::string& command : kCommands) {
    const std::string help = cairn(command + " --help").out;
    const std::size_t options = help.find("General:");
    ASSERT_NE(options, std::string::npos) << command;
    for (const std::string& line : lines_of(help.substr(0, options))) EXPECT_LE(line.size(), 100U) << line;
  }
  const std::string train = cairn("train --help").out;
  EXPECT_THAT(train, HasSubstr("--momentum X                of sgd (default 0.9)\n"));
  EXPECT_THAT(train, HasSubstr("--lr X                      learning rate (default by model)\n"));
  EXPECT_THAT(train, HasSubstr("--optimizer OPTIMIZER       sgd, adam, adamw; default by model\n"));
  EXPECT_THAT(cairn("predict --help").out, HasSubstr("--run RUN "));
}

TEST(HelpPages, WrongUseIsOneLineWithWhatWasMeant) {
  const std::pair<const char*, const char*> wrong[] = {
      {"", "error: no command given; see cairn --help"},
      {"tran", "error: there is no command 'tran'; did you mean train; see cairn --help"},
      {"xyzzy", "error: there is no command 'xyzzy'; see cairn --help"},
      {"--verison", "error: there is no option --verison; did you mean --version; see cairn --help"},
      {"train --epoch 5", "error: there is no option --epoch; did you mean --epochs; see cairn train --help"},
      {"train --btach-size=5", "did you mean --batch-size"},
      {"train --frobnicate", "error: there is no option --frobnicate; see cairn train --help"},
      {"train photos", "error: 'photos' is one argument too many; the data set goes with --data photos; see"},
      {"train --epochs many", "--epochs"},
      {"train --model resnet50", "resnet18"},
      {"predict --run nowhere x.png", "nowhere: no such folder (a run directory"}};
  for (const auto& [arguments, says] : wrong) {
    const Outcome o = cairn(arguments);
    EXPECT_EQ(o.status, 2) << arguments;
    EXPECT_EQ(lines_of(o.err).size(), 1U) << o.err;
    EXPECT_THAT(o.err, HasSubstr(says));
  }
}

TEST(HelpPages, BashCompletes) {
  data::TempFolder folder;
  const Outcome script = cairn("--completion bash");
  ASSERT_EQ(script.status, 0) << script.err;
  folder.write("cairn.bash", script.out);
  const auto complete = [&](const std::string& words, int at) {
    folder.write("ask", "source " + folder.path("cairn.bash") + "\nCOMP_WORDS=(" + words +
                            ") COMP_CWORD=" + std::to_string(at) + "\n_cairn\necho \"${COMPREPLY[@]}\" >" +
                            folder.path("answer") + "\n");
    EXPECT_EQ(std::system(("bash " + folder.path("ask")).c_str()), 0);
    return read_file(folder.path("answer"));
  };
  EXPECT_EQ(complete("cairn pre", 1), "predict\n");
  EXPECT_EQ(complete("cairn train --batch", 2), "--batch-size\n");
  EXPECT_EQ(complete("cairn train --decode f", 3), "fast\n");
  EXPECT_EQ(complete("cairn export --format ''", 3), "onnx safetensors\n");
  EXPECT_EQ(complete("cairn predict photo", 2), "\n");  // bash completes file names by itself
  EXPECT_EQ(cairn("--completion fish").status, 2);
}

}  // namespace
}  // namespace cairn::app
