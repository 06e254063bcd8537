#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/console.h"
#include "apps/options.h"
#include "data/augment.h"
#include "data/dataset/dataset.h"

namespace cairn::app {

struct SpeedOptions {
  CommonOptions common;
  std::string model;
  data::Augment augment = data::Augment::light;
  int image_size = 224;
  std::int64_t batch_size = 32;
  std::int64_t max_pixels = 0;
};

/// Rates measured on the user's own images and this machine.
struct SpeedReport {
  struct Step {
    std::string name;
    double images_per_s;  // of one thread
  };
  std::vector<Step> steps;
  int workers = 0;
  double first_epoch = 0;    // images/s, all workers, nothing cached
  double cached_epochs = 0;  // images/s, all workers, decoded images in memory
  double training = 0;       // images/s of the model alone
  std::string device;
  std::string verdict;  // what will limit training
};

/// Takes some seconds. Throws InputError where there is no image.
SpeedReport measure_speed(const data::Dataset& dataset, const SpeedOptions& options, Console& console);

nlohmann::json speed_json(const SpeedReport& report);
std::string speed_text(const SpeedReport& report);

}  // namespace cairn::app
