#include "apps/help_pages.h"

#include <vector>

#include "apps/help_format.h"

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

// "-h, --help", or the name of a positional argument.
std::string name_of(const CLI::Option& option) {
  if (!option.nonpositional()) return option.get_name(/*positional=*/true);
  std::string names;
  for (const std::string& name : option.get_snames()) names += "-" + name + ", ";
  for (const std::string& name : option.get_lnames()) names += "--" + name + ", ";
  return names.substr(0, names.size() - 2);
}

std::string words(const std::vector<std::string>& list) {
  std::string text;
  for (const std::string& word : list) text += (text.empty() ? "" : " ") + word;
  return text;
}

void append_options(std::string& page, const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    if (option->get_group().empty()) continue;
    page += ".TP\n.B " + roff(name_of(*option));
    if (const std::string value = value_word(*option); option->nonpositional() && !value.empty())
      page += " \\fI" + roff(value) + "\\fR";
    page += "\n" + roff(explained(*option)) + ".\n";
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
