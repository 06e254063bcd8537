#pragma once
#include <fstream>
#include <string>

namespace cairn::kernels {

/// "defects.cu:12" of the line in tests/emu/`file` with the comment "DEFECT name" at its end.
inline std::string marked_line(const std::string& file, const std::string& name) {
  std::ifstream in(std::string(CAIRN_SOURCE_DIR) + "/tests/emu/" + file);
  std::string line;
  for (int number = 1; std::getline(in, line); ++number)
    if (line.ends_with("// DEFECT " + name)) return file + ":" + std::to_string(number);
  return "no line is marked";
}

}  // namespace cairn::kernels
