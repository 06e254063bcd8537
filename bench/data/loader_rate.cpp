// Images a second that cairn's loader brings from a data set, as uint8 batches of 32 images of 224 x 224: the
// counterpart of bench/peers/loader.py, one JSON object a line. "uncached": every image is read, decoded and
// resized each epoch; "cached": from the second epoch on, decoded images in memory. And the decoder's own
// rate: the same files in memory, decoded and dropped, on as many threads.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>

#include "data/loader.h"
#include "data/parallel.h"

namespace cairn::data {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string data;
  std::string augment = "none";
  std::string decode = "fast";
  int workers = 0;
  double seconds = 4;
};

// Runs epoch(number), which returns its images, until the time has passed; images a second.
double timed(const Options& o, const std::function<int64_t(int64_t)>& epoch) {
  epoch(0);
  const Clock::time_point begin = Clock::now();
  const auto passed = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  int64_t images = 0;
  for (int64_t number = 1; images == 0 || passed() < o.seconds; ++number) images += epoch(number);
  return static_cast<double>(images) / passed();
}

double loader_rate(const Dataset& dataset, const Options& o, bool cached) {
  LoaderOptions options;
  for (size_t i = 0; i < dataset.items.size(); ++i) options.items.push_back(static_cast<int64_t>(i));
  options.decode.mode = o.decode == "fast" ? DecodeMode::fast : DecodeMode::exact;
  options.augment = parse_augment(o.augment);
  options.workers = o.workers;
  options.cache_bytes = cached ? -1 : 0;
  Loader loader(dataset, options);
  return timed(o, [&](int64_t epoch) {
    loader.start_epoch(epoch);
    int64_t images = 0;
    for (Batch batch; loader.next(batch);) images += batch.size;
    return images;
  });
}

double decoder_rate(const Dataset& dataset, const Options& o) {
  const auto n = static_cast<int64_t>(dataset.items.size());
  std::vector<std::vector<uint8_t>> files(n);
  for (int64_t i = 0; i < n; ++i) files[i] = dataset.read_bytes(dataset.items[i]);
  DecodeOptions options;
  options.mode = o.decode == "fast" ? DecodeMode::fast : DecodeMode::exact;
  options.target_size = augment_source_size(parse_augment(o.augment), 224);
  return timed(o, [&](int64_t) {
    parallel_for(n, o.workers, [&](int64_t i) { decode_image(files[i], options, dataset.items[i].path); });
    return n;
  });
}

int run(const Options& o) {
  const Dataset dataset = open_dataset(o.data);
  const auto print = [&](const char* what, double rate) {
    std::printf("%s\n", nlohmann::json{{"peer", "cairn"},
                                       {"data", o.data},
                                       {"augment", o.augment},
                                       {"decode", o.decode},
                                       {"what", what},
                                       {"workers", resolve_workers(o.workers)},
                                       {"images_per_s", rate}}
                            .dump()
                            .c_str());
    std::fflush(stdout);
  };
  print("uncached", loader_rate(dataset, o, false));
  print("cached", loader_rate(dataset, o, true));
  print("decoder alone", decoder_rate(dataset, o));
  return 0;
}

}  // namespace
}  // namespace cairn::data

int main(int count, char** arguments) {
  cairn::data::Options o;
  CLI::App app("images a second of cairn's loader");
  app.add_option("DATA", o.data)->required();
  app.add_option("--augment", o.augment)->check(CLI::IsMember({"none", "light", "standard"}));
  app.add_option("--decode", o.decode)->check(CLI::IsMember({"exact", "fast"}));
  app.add_option("--workers", o.workers, "0: one a core");
  app.add_option("--seconds", o.seconds, "of each measurement");
  CLI11_PARSE(app, count, arguments);
  try {
    return cairn::data::run(o);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "loader_rate: %s\n", error.what());
    return 1;
  }
}
