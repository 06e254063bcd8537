#pragma once
#include <cstdint>
#include <string_view>

namespace cairn::data {

enum class Augment : uint8_t { none, light, standard };

std::string_view augment_name(Augment augment);
Augment parse_augment(std::string_view name);  // throws InputError

/// What makes an augmentation the same wherever and whenever it is computed.
struct AugmentKey {
  uint64_t seed;
  int64_t epoch;
  int64_t position;  // in the epoch
};

/// Side of the square that augment_image wants for an output of side `size`; `size` itself for none.
int augment_source_size(Augment augment, int size);

/// Augments one image, uint8 RGB HWC: src [source, source, 3] with source = augment_source_size(augment,
/// size), to dst [size, size, 3]. none: a copy. light: random resized crop (area 0.6 to 1, aspect 3/4 to 4/3)
/// and horizontal flip. standard: light, then two operations of RandAugment (Cubuk et al. 2020), colour
/// jitter, random erasing (Zhong et al. 2020). Mixing is apart: mix_pair.
void augment_image(Augment augment, const uint8_t* src, uint8_t* dst, int size, const AugmentKey& key);

/// How a pair of images was mixed: labels of the first count `lambda`, of its partner 1 - lambda; the same
/// holds for the partner, seen from its side.
struct Mix {
  float lambda = 1;
};

/// Whether images are mixed at all (standard).
bool augment_mixes(Augment augment);
/// Mixes two images of one batch in place, [size, size, 3] each: half of all pairs are left alone, a quarter
/// gets mixup (Zhang et al. 2018, alpha 0.2), a quarter CutMix (Yun et al. 2019, alpha 1). `key` is the first
/// one's.
Mix mix_pair(uint8_t* a, uint8_t* b, int size, const AugmentKey& key);

}  // namespace cairn::data
