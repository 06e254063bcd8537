# Kernels for the emulated device, in cairn's own build and against an installed one. library.cpp and kernels.map lie in
# cairn_SUPPORT_DIR.

# cairn_add_emulated_kernels(name file.cu... [CHECKED]): a shared library of kernels and their launchers. It holds
# nothing else with thread-local variables: its thread-local segment is the kernels' shared memory.
# CHECKED: each access of a kernel is checked and counted; about ten to fifty times as slow.
function(cairn_add_emulated_kernels name)
  cmake_parse_arguments(ARG "CHECKED" "" "" ${ARGN})
  add_library(${name} SHARED ${ARG_UNPARSED_ARGUMENTS} ${cairn_SUPPORT_DIR}/library.cpp)
  set_source_files_properties(${ARG_UNPARSED_ARGUMENTS} PROPERTIES LANGUAGE CXX)
  target_link_libraries(${name} PUBLIC cairn::cairn_emu)
  # Baseline x86-64 on purpose (AVX code that calls libm's SSE code is 40 times slower), no contraction to fma, which
  # nvcc does on its own terms, and no type-based aliasing, as kernels cast to float4.
  target_compile_options(${name} PRIVATE -g -ffp-contract=off -fno-strict-aliasing -Wno-unknown-pragmas
    $<IF:$<BOOL:${ARG_CHECKED}>,-O1,-O2>)
  target_link_options(${name} PRIVATE -Wl,-Bsymbolic-functions -Wl,--version-script=${cairn_SUPPORT_DIR}/kernels.map)
  if(ARG_CHECKED)
    target_compile_definitions(${name} PRIVATE CAIRN_EMU_CHECKED)
    # Instrumentation only, with our own callbacks: never a link option. no-tree-sra keeps 16-byte accesses whole.
    target_compile_options(${name} PRIVATE -fsanitize=thread,bounds -fno-tree-sra
      "SHELL:--param tsan-instrument-func-entry-exit=0" "SHELL:--param tsan-distinguish-volatile=1")
  endif()
endfunction()
