#include "apps/exact_json.h"

namespace cairn::app {
namespace {

bool is_utf8(const std::string& text) {
  try {
    static_cast<void>(nlohmann::json(text).dump());
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

}  // namespace

nlohmann::json exact_json(const std::string& text) {
  if (is_utf8(text)) return text;
  std::string wide;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      wide += c;
    } else {
      wide += static_cast<char>(0xC0 | byte >> 6);
      wide += static_cast<char>(0x80 | (byte & 0x3F));
    }
  }
  return {{"latin1", wide}};
}

std::string exact_text(const nlohmann::json& json) {
  if (!json.is_object()) return json.get<std::string>();
  const std::string wide = json.at("latin1").get<std::string>();
  std::string text;
  for (std::size_t i = 0; i < wide.size(); ++i) {
    const auto byte = static_cast<unsigned char>(wide[i]);
    if (byte < 0x80 || i + 1 == wide.size())
      text += wide[i];
    else
      text += static_cast<char>((byte & 0x03) << 6 | (static_cast<unsigned char>(wide[++i]) & 0x3F));
  }
  return text;
}

}  // namespace cairn::app
