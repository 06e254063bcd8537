#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace cairn::app {

/// Text byte for byte in JSON, which takes UTF-8 alone: file names may hold anything. What is no UTF-8
/// becomes
/// {"latin1": text}, each byte a character of its own.
nlohmann::json exact_json(const std::string& text);
/// The text of exact_json. Throws nlohmann::json::exception for anything else.
std::string exact_text(const nlohmann::json& json);

}  // namespace cairn::app
