#pragma once
#include <cstdio>
#include <string>

namespace cairn {

/// printf into a string; at most 255 characters.
template <class... Values>
std::string format_text(const char* format, Values... values) {
  char text[256];
  std::snprintf(text, sizeof text, format, values...);
  return text;
}

}  // namespace cairn
