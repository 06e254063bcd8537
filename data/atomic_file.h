#pragma once
#include "kernels/atomic_file.h"

namespace cairn::data {

using cairn::write_file_atomically;

}  // namespace cairn::data
