#include "apps/help_pages.h"

#include <sstream>
#include <vector>

namespace cairn::app {
namespace {

std::vector<const CLI::App*> commands_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

// Text that roff takes as it is.
std::string roff(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\') {
      out += "\\e";
    } else if (c == '-') {
      out += "\\-";
    } else {
      if ((c == '.' || c == '\'') && (out.empty() || out.back() == '\n')) out += "\\&";
      out += c;
    }
  }
  return out;
}

std::string lines_kept(const std::string& text) { return ".nf\n" + roff(text) + "\n.fi\n"; }

// "TEXT:{a,b}" is the type's name and what its check says.
std::string type_of(const CLI::Option& option) {
  return option.get_type_name().substr(0, option.get_type_name().find(':'));
}
std::vector<std::string> choices_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const std::size_t begin = type.find('{'), end = type.find('}');
  std::vector<std::string> choices;
  if (begin == std::string::npos || end == std::string::npos) return choices;
  std::istringstream text(type.substr(begin + 1, end - begin - 1));
  for (std::string choice; std::getline(text, choice, ',');) choices.push_back(choice);
  return choices;
}

// "-h, --help", or the name of a positional argument.
std::string name_of(const CLI::Option& option) {
  if (!option.nonpositional()) return option.get_name(/*positional=*/true);
  std::string names;
  for (const std::string& name : option.get_snames()) names += "-" + name + ", ";
  for (const std::string& name : option.get_lnames()) names += "--" + name + ", ";
  return names.substr(0, names.size() - 2);
}

std::string words(const std::vector<std::string>& list, const char* between = " ") {
  std::string text;
  for (const std::string& word : list) text += (text.empty() ? "" : between) + word;
  return text;
}

void append_options(std::string& page, const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const bool flag = option->get_expected_max() == 0;
    page += ".TP\n.B " + roff(name_of(*option));
    if (!flag && option->nonpositional()) page += " \\fI" + roff(type_of(*option)) + "\\fR";
    const std::string& says = option->get_description();
    page += "\n" + (says.empty() ? "" : roff(says) + ".\n");
    if (const auto choices = choices_of(*option); !choices.empty())
      page += "One of " + roff(words(choices, ", ")) + ".\n";
    if (!flag && !option->get_default_str().empty())
      page += "Default: " + roff(option->get_default_str()) + ".\n";
    if (option->get_required()) page += "Required.\n";
  }
}

}  // namespace

std::string man_page(const CLI::App& app) {
  std::string page = ".TH CAIRN 1 \"\" \"cairn " CAIRN_VERSION "\" \"User Commands\"\n.SH NAME\ncairn \\- " +
                     roff(app.get_description()) +
                     "\n.SH SYNOPSIS\n.B cairn\n.I COMMAND\n[\\fIOPTION\\fR]...\n.SH OPTIONS\n";
  append_options(page, app);
  page += ".SH COMMANDS\n";
  for (const CLI::App* command : commands_of(app)) {
    page += ".SS cairn " + roff(command->get_name()) + "\n" + roff(command->get_description()) + ".\n";
    append_options(page, *command);
    if (!command->get_footer().empty()) page += ".PP\n" + lines_kept(command->get_footer());
  }
  return page + ".SH EXIT STATUS\n0 done, 1 the work failed, 2 wrong usage or bad input.\n.SH EXAMPLES\n" +
         lines_kept(app.get_footer());
}

std::string bash_completion(const CLI::App& app) {
  std::vector<std::string> names;
  std::string options, values;
  for (const CLI::App* command : commands_of(app)) {
    const std::string& name = command->get_name();
    names.push_back(name);
    std::vector<std::string> flags;
    for (const CLI::Option* option : command->get_options()) {
      if (!option->nonpositional()) continue;
      for (const std::string& flag : option->get_lnames()) {
        flags.push_back("--" + flag);
        if (const auto choices = choices_of(*option); !choices.empty())
          values += "    '" + name + " --" + flag + "') words='" + words(choices) + "' ;;\n";
      }
    }
    options += "      " + name + ") words='" + words(flags) + "' ;;\n";
  }
  return "# Completions of cairn for bash, written by `cairn --completion bash`. File names where there are "
         "none.\n"
         "_cairn() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} command=${COMP_WORDS[1]} words=''\n"
         "  case \"$command ${COMP_WORDS[COMP_CWORD-1]}\" in\n" +
         values +
         "  esac\n"
         "  if [ \"$COMP_CWORD\" = 1 ]; then\n"
         "    words='" +
         words(names) +
         " --help --version'\n"
         "  elif [ -z \"$words\" ] && [[ $word == -* ]]; then\n"
         "    case $command in\n" +
         options +
         "    esac\n"
         "  fi\n"
         "  COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
         "}\n"
         "complete -o default -F _cairn cairn\n";
}

}  // namespace cairn::app
