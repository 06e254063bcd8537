# Embeds the pages' styles and scripts, and Chart.js of the distribution, into cairn_app, so that a page is one
# file that opens offline and the program needs nothing beside it.
find_file(CAIRN_CHART_JS chart.min.js
  PATHS /usr/share /usr/local/share
  PATH_SUFFIXES javascript/chart.js share/javascript/chart.js nodejs/chart.js/dist share/nodejs/chart.js/dist)
set(CAIRN_CHART_JS_FILE "${CAIRN_CHART_JS}")
if(NOT CAIRN_CHART_JS)
  set(CAIRN_CHART_JS_FILE "")
  message(STATUS "Chart.js not found: report.html shows its curves as tables (Debian: libjs-chart.js)")
endif()
set(CAIRN_ASSETS_CPP ${CMAKE_CURRENT_BINARY_DIR}/assets.cpp)
set(CAIRN_ASSETS page_css=${CMAKE_CURRENT_LIST_DIR}/page.css fixes_js=${CMAKE_CURRENT_LIST_DIR}/fixes.js
  report_css=${CMAKE_CURRENT_LIST_DIR}/report.css report_js=${CMAKE_CURRENT_LIST_DIR}/report.js
  charts_js=${CMAKE_CURRENT_LIST_DIR}/charts.js chart_js=${CAIRN_CHART_JS_FILE})
set(CAIRN_ASSET_FILES ${CAIRN_CHART_JS_FILE})
foreach(name page.css fixes.js report.css report.js charts.js embed.cmake)
  list(APPEND CAIRN_ASSET_FILES ${CMAKE_CURRENT_LIST_DIR}/${name})
endforeach()
add_custom_command(OUTPUT ${CAIRN_ASSETS_CPP}
  COMMAND ${CMAKE_COMMAND} -DOUTPUT=${CAIRN_ASSETS_CPP} "-DFILES=${CAIRN_ASSETS}" -P ${CMAKE_CURRENT_LIST_DIR}/embed.cmake
  DEPENDS ${CAIRN_ASSET_FILES} VERBATIM)
target_sources(cairn_app PRIVATE ${CAIRN_ASSETS_CPP})
