#pragma once
#include <fstream>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <vector>

namespace cairn::test {

inline std::string fixture_path(const std::string& name) {
  return std::string(CAIRN_SOURCE_DIR) + "/tests/fixtures/" + name;
}

inline nlohmann::json fixture_json(const std::string& name) {
  std::ifstream file(fixture_path(name));
  if (!file) throw std::runtime_error("missing fixture " + name + "; make it with make_torch_fixtures.py");
  return nlohmann::json::parse(file);
}

}  // namespace cairn::test
