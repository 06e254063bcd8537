#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace cairn::app {

/// The text as HTML shows it, also within an attribute's double quotes.
std::string html_escaped(std::string_view text);
/// As the text of a <script type="application/json">: no "<" means no end tag and no comment within.
std::string script_json(const nlohmann::json& json);

}  // namespace cairn::app
