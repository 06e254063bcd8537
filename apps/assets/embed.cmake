# Writes OUTPUT, a C++ file that defines cairn::app::assets::NAME as the text of each FILE; FILES is a list of
# NAME=FILE. Run by a custom command: cmake -DOUTPUT=... "-DFILES=..." -P embed.cmake
set(text "// Made by apps/assets/embed.cmake.\n#include \"apps/assets/assets.h\"\n\nnamespace cairn::app::assets {\n\n")
foreach(pair IN LISTS FILES)
  string(REGEX REPLACE "=.*" "" name "${pair}")
  string(REGEX REPLACE "^[^=]*=" "" file "${pair}")
  set(content "")
  if(file)
    file(READ "${file}" content)
  endif()
  string(APPEND text "const std::string_view ${name} = R\"CAIRN_ASSET(${content})CAIRN_ASSET\";\n\n")
endforeach()
string(APPEND text "}  // namespace cairn::app::assets\n")
file(WRITE "${OUTPUT}" "${text}")
