#pragma once
#include <string_view>

/// The texts of apps/assets, embedded at build time by assets.cmake.
namespace cairn::app::assets {

extern const std::string_view page_css;    // what every page looks like
extern const std::string_view fixes_js;    // ticks and labels that become a fixes.csv
extern const std::string_view report_css;  // of report.html
extern const std::string_view report_js;
extern const std::string_view charts_js;
extern const std::string_view chart_js;  // Chart.js; empty where the build found none

}  // namespace cairn::app::assets
