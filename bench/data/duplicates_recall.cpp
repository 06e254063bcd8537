// How many altered copies of a folder's images the near-duplicate search finds, and how many pairs of
// different images it takes for copies: duplicates_recall FOLDER. Pairs that the folder really holds twice
// count as false alarms here unless their bytes are equal, so that the rate printed is an upper bound.
#include <atomic>
#include <cstdio>

#include "data/dataset/dataset.h"
#include "data/dataset/scan.h"
#include "data/duplicates.h"
#include "data/hash.h"
#include "data/parallel.h"
#include "kernels/error.h"
#include "tests/data/altered_copies.h"

namespace cairn::data {
namespace {

int measure(const std::string& folder) {
  const Dataset dataset = open_dataset(folder);
  const std::vector<Alteration> ways = alterations();
  const auto n = static_cast<int64_t>(dataset.items.size());
  std::vector<Look> looks(n);
  std::vector<std::string> hashes(n);
  std::vector<std::vector<uint8_t>> found(n, std::vector<uint8_t>(ways.size()));
  parallel_for(n, 0, [&](int64_t i) {
    try {
      const std::vector<uint8_t> bytes = dataset.read_bytes(dataset.items[i]);
      Image image = decode_image(bytes, {}, dataset.items[i].path);
      const int longest = std::max(image.width, image.height);
      if (longest > 1024) image = scaled(image, 1024.0f / static_cast<float>(longest));
      hashes[i] = content_hash(bytes);
      looks[i] = make_look(image);
      for (size_t w = 0; w < ways.size() && !looks[i].flat; ++w)
        found[i][w] = looks_alike(looks[i], make_look(ways[w].make(image, static_cast<uint64_t>(i))));
    } catch (const InputError& error) {
      std::fprintf(stderr, "left out: %s\n", error.what());
      looks[i].flat = true;
    }
  });
  int64_t images = 0;
  for (const Look& look : looks) images += !look.flat;
  std::printf("%lld images, %lld left out (flat or not readable)\n", static_cast<long long>(images),
              static_cast<long long>(n - images));
  for (size_t w = 0; w < ways.size(); ++w) {
    int64_t hits = 0;
    for (const auto& f : found) hits += f[w];
    std::printf("  recall %.4f  %s\n", static_cast<double>(hits) / static_cast<double>(images),
                ways[w].name.c_str());
  }
  std::atomic<int64_t> pairs{0}, alarms{0};
  parallel_for(n, 0, [&](int64_t i) {
    for (int64_t j = i + 1; j < n; ++j) {
      if (looks[i].flat || looks[j].flat || hashes[i] == hashes[j]) continue;
      ++pairs;
      if (!looks_alike(looks[i], looks[j])) continue;
      ++alarms;
      std::fprintf(stderr, "alike: %s %s\n", dataset.items[i].path.c_str(), dataset.items[j].path.c_str());
    }
  });
  std::printf("pairs of files with different bytes taken for copies: %lld of %lld (%.4f %%)\n",
              static_cast<long long>(alarms), static_cast<long long>(pairs),
              100 * static_cast<double>(alarms) / static_cast<double>(std::max<int64_t>(pairs, 1)));
  return 0;
}

}  // namespace
}  // namespace cairn::data

int main(int count, char** arguments) {
  try {
    if (count == 2) return cairn::data::measure(arguments[1]);
    std::fprintf(stderr, "usage: duplicates_recall FOLDER (one folder of images a class)\n");
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "duplicates_recall: %s\n", error.what());
    return 1;
  }
}
