#pragma once
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "kernels/cuda/cudnn_graph.h"

namespace cairn::kernels::cudnn {

/// A file's bytes; "" where there is none.
inline std::string text_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

/// A GPU as cuDNN knows it, from a profile: "sm90_H100".
inline DeviceDescription profile_device(const std::string& profile) {
  return DeviceDescription::of_json(
      text_of(std::filesystem::path(CAIRN_SOURCE_DIR) / "kernels/emu/profiles" / (profile + ".json")));
}
/// "sm90_H100" -> 90
inline int capability(const std::string& profile) { return std::atoi(profile.c_str() + 2); }

}  // namespace cairn::kernels::cudnn
