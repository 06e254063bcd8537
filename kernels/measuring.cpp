#include "kernels/measuring.h"

namespace cairn::kernels {
namespace {

constinit const MeasureApi* apis[kDeviceTypeCount] = {};

}  // namespace

const MeasureApi* measure_api(DeviceType type) { return apis[static_cast<int>(type)]; }
void register_measure_api(DeviceType type, const MeasureApi* api) { apis[static_cast<int>(type)] = api; }

}  // namespace cairn::kernels
