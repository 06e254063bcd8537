# cairn_add_op(NAME SOURCES file.cpp... [CUDA file...] [TEST file.cpp] [BENCHMARK file.cpp])
#
# Builds an op, layer or model outside the engine:
#   libNAME.so       SOURCES: linked by a program of yours, or loaded by cairn train --plugin
#   NAME_test        TEST: a program that ctest runs; status 0 is passed
#   NAME_benchmark   BENCHMARK: a program
# CUDA names the files that hold device code, often the same file as SOURCES: they are compiled a second time, with
# CAIRN_DEVICE_PASS defined,
#   - by nvcc into libNAME.so where cairn was built with CUDA (and nvcc is found);
#   - by g++ for the emulated device where cairn was built with it, into a library of its own that the programs link.
#     TEST and BENCHMARK are then built twice: in NAME_test_checked each access of a kernel is checked, and
#     NAME_benchmark_checked counts what they move;
#   - not at all where cairn has neither.
# The emulated device's kernels cannot be loaded as a plugin (docs/custom-ops.md says why): there libNAME.so serves the CPU.
function(cairn_add_op name)
  cmake_parse_arguments(ARG "" "TEST;BENCHMARK" "SOURCES;CUDA" ${ARGN})
  if(NOT ARG_SOURCES OR ARG_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "cairn_add_op(${name} SOURCES file.cpp... [CUDA file...] [TEST file.cpp] [BENCHMARK file.cpp])")
  endif()
  add_library(${name} SHARED ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC cairn::cairn)

  # A device file is a file of its own that includes the op's: one file is compiled in two ways.
  set(device_files "")
  foreach(file ${ARG_CUDA})
    get_filename_component(path ${file} ABSOLUTE)
    get_filename_component(stem ${file} NAME_WE)
    set(device_file ${CMAKE_CURRENT_BINARY_DIR}/${name}_${stem}_device.cu)
    file(CONFIGURE OUTPUT ${device_file} CONTENT "#include \"${path}\"\n" @ONLY)
    list(APPEND device_files ${device_file})
  endforeach()

  set(device "")   # what programs link besides
  set(checked "")  # ... to run checked kernels
  if(device_files AND cairn_CUDA)
    if(CAIRN_NVCC)
      add_library(${name}_device OBJECT ${device_files})
      set_target_properties(${name}_device PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON CUDA_EXTENSIONS OFF
        POSITION_INDEPENDENT_CODE ON CUDA_ARCHITECTURES "${cairn_CUDA_ARCHITECTURES}")
      target_compile_definitions(${name}_device PRIVATE CAIRN_DEVICE_PASS)
      target_link_libraries(${name}_device PRIVATE cairn::cairn)
      set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
      target_link_libraries(${name} PRIVATE ${name}_device CUDA::cudart_static)
    else()
      message(STATUS "${name}: no nvcc found (set CUDA_HOME): its CUDA kernels are left out")
    endif()
  elseif(device_files AND cairn_CUDA_EMU)
    cairn_add_emulated_kernels(${name}_emu ${device_files})
    target_compile_definitions(${name}_emu PRIVATE CAIRN_DEVICE_PASS)
    target_link_libraries(${name}_emu PUBLIC cairn::cairn)
    set(device ${name}_emu cairn::cairn_kernels_emu)
    if(TARGET cairn::cairn_kernels_emu_checked AND ARG_TEST)
      cairn_add_emulated_kernels(${name}_emu_checked ${device_files} CHECKED)
      target_compile_definitions(${name}_emu_checked PRIVATE CAIRN_DEVICE_PASS)
      target_link_libraries(${name}_emu_checked PUBLIC cairn::cairn)
      set(checked ${name}_emu_checked cairn::cairn_kernels_emu_checked)
    endif()
  elseif(cairn_CUDA_EMU)  # what is made of public ops has the engine's kernels
    set(device cairn::cairn_kernels_emu)
    if(TARGET cairn::cairn_kernels_emu_checked AND ARG_TEST)
      set(checked cairn::cairn_kernels_emu_checked)
    endif()
  elseif(device_files)
    message(STATUS "${name}: this cairn has no CUDA and no emulated device: its CUDA kernels are left out")
  endif()

  # Nothing in a program names the kernels: without the option a linker may drop their library.
  if(ARG_TEST)
    add_executable(${name}_test ${ARG_TEST})
    target_link_libraries(${name}_test PRIVATE ${name} -Wl,--no-as-needed ${device})
    add_test(NAME ${name}_test COMMAND ${name}_test)
    if(checked)
      add_executable(${name}_test_checked ${ARG_TEST})
      target_link_libraries(${name}_test_checked PRIVATE ${name} -Wl,--no-as-needed ${checked})
      add_test(NAME ${name}_test_checked COMMAND ${name}_test_checked)
    endif()
  endif()
  if(ARG_BENCHMARK)
    add_executable(${name}_benchmark ${ARG_BENCHMARK})
    target_link_libraries(${name}_benchmark PRIVATE ${name} -Wl,--no-as-needed ${device})
    if(checked)
      add_executable(${name}_benchmark_checked ${ARG_BENCHMARK})
      target_link_libraries(${name}_benchmark_checked PRIVATE ${name} -Wl,--no-as-needed ${checked})
    endif()
  endif()
endfunction()
