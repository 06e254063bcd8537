#include "apps/help_format.h"

#include <algorithm>
#include <cctype>
#include <numeric>
#include <sstream>

namespace cairn::app {
namespace {

constexpr std::size_t kColumns = 100, kIndent = 30;

std::string joined(const std::vector<std::string>& words, const char* between) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : between) + word;
  return text;
}

// Lines of at most kColumns, all but the first behind an indent. A word that is longer has a line of its own.
std::string wrapped(const std::string& text) {
  std::istringstream words(text);
  std::string out;
  std::size_t column = kIndent;
  for (std::string word; words >> word;) {
    if (column > kIndent && column + 1 + word.size() > kColumns) {
      out += "\n" + std::string(kIndent, ' ');
      column = kIndent;
    } else if (column > kIndent) {
      out += ' ';
      ++column;
    }
    out += word;
    column += word.size();
  }
  return out;
}

class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode /*mode*/) const override {
    std::string text = make_description(app) + make_usage(app, std::move(name)) + make_positionals(app);
    std::vector<std::string> groups = app->get_groups();
    std::stable_partition(groups.begin(), groups.end(),
                          [](const std::string& group) { return group != kGeneralGroup; });
    for (const std::string& group : groups) {
      const auto options = app->get_options(
          [&](const CLI::Option* o) { return o->nonpositional() && o->get_group() == group; });
      if (!group.empty() && !options.empty()) text += make_group(group, false, options);
    }
    return text + make_subcommands(app, CLI::AppFormatMode::Normal) + "\n" + make_footer(app);
  }

  std::string make_option(const CLI::Option* option, bool is_positional) const override {
    std::string name = "  " + make_option_name(option, is_positional);
    if (const std::string value = value_word(*option); !is_positional && !value.empty()) name += " " + value;
    const std::string says = explained(*option);
    if (says.empty()) return name + "\n";
    if (name.size() + 1 > kIndent)
      name += "\n" + std::string(kIndent, ' ');
    else
      name.resize(kIndent, ' ');
    return name + wrapped(says) + "\n";
  }
};

// How many letters have to be put in, left out or changed (Levenshtein 1966).
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t changed = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

// "; did you mean X" for the nearest of the names, or nothing.
std::string guess(const std::string& word, const std::vector<std::string>& names) {
  std::string best;
  std::size_t least = 3;  // two slips of the finger are one word still
  for (const std::string& name : names) {
    const std::size_t d = word.size() >= 4 && name.starts_with(word) ? 1 : distance(word, name);
    if (d < least && d < word.size()) {
      least = d;
      best = name;
    }
  }
  return best.empty() ? "" : "; did you mean " + best;
}

std::vector<std::string> option_names(const CLI::App& command) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

std::string unexpected(const CLI::App& command, const std::vector<std::string>& arguments) {
  for (const std::string& argument : arguments) {
    const std::string name = argument.substr(0, argument.find('='));
    if (argument.size() > 1 && argument[0] == '-')
      return "there is no option " + name + guess(name, option_names(command));
  }
  std::string what = "'" + arguments.front() + "' is one argument too many";
  if (command.get_option_no_throw("--data")) what += "; the data set goes with --data " + arguments.front();
  return what;
}

}  // namespace

std::vector<std::string> choices_of(const CLI::Option& option) {
  // "TEXT:{a,b}": the type's name and what its check says.
  const std::string type = option.get_type_name();
  const std::size_t begin = type.find('{'), end = type.find('}');
  std::vector<std::string> choices;
  if (begin == std::string::npos || end == std::string::npos) return choices;
  std::istringstream text(type.substr(begin + 1, end - begin - 1));
  for (std::string choice; std::getline(text, choice, ',');) choices.push_back(choice);
  return choices;
}

std::string value_word(const CLI::Option& option) {
  if (option.get_expected_max() == 0 || option.get_type_size() == 0) return {};
  const std::string type = option.get_type_name().substr(0, option.get_type_name().find(':'));
  if (type == "INT" || type == "UINT") return "N";
  if (type == "FLOAT") return "X";
  if (type != "TEXT" || option.get_lnames().empty()) return type;
  std::string word = option.get_lnames().front();
  word.erase(0, word.rfind('-') + 1);  // "FILE" of --cache-file
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return word;
}

std::string explained(const CLI::Option& option) {
  std::string text = option.get_description(), more;
  const std::vector<std::string> choices = choices_of(option);
  const bool named = std::all_of(choices.begin(), choices.end(), [&](const std::string& choice) {
    return text.find(choice) != std::string::npos;
  });
  if (!named) more = joined(choices, ", ");
  const auto add = [&](const std::string& what) { more += (more.empty() ? "" : "; ") + what; };
  if (option.get_expected_max() != 0 && !option.get_default_str().empty())
    add("default " + option.get_default_str());
  if (option.get_required()) add("required");
  if (more.empty()) return text;
  return text.empty() ? more : text + " (" + more + ")";
}

std::shared_ptr<CLI::FormatterBase> make_help_formatter() { return std::make_shared<HelpFormatter>(); }

std::string usage_error(const CLI::App& app, const std::vector<std::string>& arguments,
                        const CLI::ParseError& error) {
  const std::vector<CLI::App*> commands = app.get_subcommands();
  if (commands.empty()) {
    std::vector<std::string> names;
    for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
      names.push_back(command->get_name());
    if (arguments.empty()) return "no command given; see cairn --help";
    const std::string& word = arguments.front();
    if (word[0] != '-')
      return "there is no command '" + word + "'" + guess(word, names) + "; see cairn --help";
    const bool unknown = !app.get_option_no_throw(word.substr(0, word.find('=')));
    return (unknown ? unexpected(app, {word}) : std::string(error.what())) + "; see cairn --help";
  }
  const CLI::App& command = *commands.front();
  const std::vector<std::string> left = command.remaining();
  const bool extra = error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError) && !left.empty();
  return (extra ? unexpected(command, left) : std::string(error.what())) + "; see cairn " +
         command.get_name() + " --help";
}

}  // namespace cairn::app
