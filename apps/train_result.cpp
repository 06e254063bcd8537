#include <sys/resource.h>

#include "apps/trainer.h"

namespace cairn::app {

nlohmann::json result_json(const TrainResult& r) {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  nlohmann::json json = {{"first_step_s", r.first_step_s},
                         {"data_wait", r.data_wait},
                         {"peak_rss_mb", static_cast<double>(usage.ru_maxrss) / 1024},
                         {"epochs", r.epochs},
                         {"steps", r.steps},
                         {"train_loss", r.train_loss},
                         {"best_epoch", r.best_epoch},
                         {"images_per_s", nullptr},
                         {"val", nullptr},
                         {"test", nullptr}};
  if (r.images_per_s) json["images_per_s"] = *r.images_per_s;
  if (r.val) json["val"] = summary_json(*r.val);
  if (r.test) json["test"] = summary_json(*r.test);
  return json;
}

}  // namespace cairn::app
