#pragma once
#include <string>
#include <string_view>

namespace cairn::app {

/// The text as HTML shows it, also within an attribute's double quotes.
std::string html_escaped(std::string_view text);

}  // namespace cairn::app
