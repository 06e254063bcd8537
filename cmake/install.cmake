# cmake --install: the program, the libraries of this build, the public headers, the CMake package.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cairn)

set(libraries cairn cairn_f64)
foreach(target cairn_cuda cairn_emu cairn_kernels_emu)
  if(TARGET ${target})
    list(APPEND libraries ${target})
  endif()
endforeach()
set(loaded "")  # by libcairn at run time; nothing links them
foreach(target cairn_mpi cairn_nccl cairn_cudnn cairn_cublaslt)
  if(TARGET ${target})
    list(APPEND loaded ${target})
  endif()
endforeach()
set_target_properties(${libraries} ${loaded} PROPERTIES INSTALL_RPATH "$ORIGIN" INSTALL_RPATH_USE_LINK_PATH TRUE)
install(TARGETS ${libraries} EXPORT cairnTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cairn)
if(loaded)
  install(TARGETS ${loaded} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
install(EXPORT cairnTargets NAMESPACE cairn:: DESTINATION ${package_dir})

# Headers under include/cairn, as they are included: "engine/ops.h". What needs a library that only cairn's own build
# has (oneDNN, cuDNN, the decoders' insides) stays out.
foreach(floor kernels engine models data)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${floor} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/cairn
    FILES_MATCHING PATTERN "*.h"
    PATTERN "internal.h" EXCLUDE PATTERN "onednn.h" EXCLUDE PATTERN "conv_problem.h" EXCLUDE PATTERN "cudnn_graph.h" EXCLUDE PATTERN "plan_cache.h" EXCLUDE
    PATTERN "inflate.h" EXCLUDE PATTERN "module_tensors.h" EXCLUDE PATTERN "vendor" EXCLUDE PATTERN "profiles" EXCLUDE)
endforeach()

set(CAIRN_INSTALLED_CUDA_ARCHITECTURES "")
if(CAIRN_CUDA)
  get_target_property(CAIRN_INSTALLED_CUDA_ARCHITECTURES cairn_cuda CUDA_ARCHITECTURES)
endif()
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/cairnConfig.cmake.in ${PROJECT_BINARY_DIR}/cairnConfig.cmake
  INSTALL_DESTINATION ${package_dir} PATH_VARS CMAKE_INSTALL_LIBDIR)
# Before 1.0 every version has an interface of its own.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cairnConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cairnConfig.cmake ${PROJECT_BINARY_DIR}/cairnConfigVersion.cmake
  cmake/cairnOps.cmake DESTINATION ${package_dir})
if(CAIRN_CUDA_EMU)
  install(FILES cmake/cairnEmulated.cmake kernels/emu/library.cpp kernels/emu/kernels.map DESTINATION ${package_dir})
  install(DIRECTORY kernels/emu/profiles DESTINATION ${CMAKE_INSTALL_DATADIR}/cairn)
  if(TARGET cairn_kernels_emu_checked)
    # Not a part of `all`: installed where it was built.
    set_target_properties(cairn_kernels_emu_checked PROPERTIES INSTALL_RPATH "$ORIGIN")
    install(TARGETS cairn_kernels_emu_checked EXPORT cairnChecked LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} OPTIONAL)
    install(EXPORT cairnChecked NAMESPACE cairn:: DESTINATION ${package_dir})
  endif()
endif()

# The tutorial and what it points to.
install(FILES docs/custom-ops.md docs/ladder.md docs/kernel-checks.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DOCDIR} PATTERN "examples/CMakeLists.txt" EXCLUDE)

# Libraries find one another beside themselves, the program finds them from its own place.
file(RELATIVE_PATH to_libraries /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
if(TARGET cairn_cli)
  set_target_properties(cairn_cli PROPERTIES INSTALL_RPATH "$ORIGIN/${to_libraries}")
  install(TARGETS cairn_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
if(TARGET cairn_cli_checked)  # not a part of `all` either
  set_target_properties(cairn_cli_checked PROPERTIES INSTALL_RPATH "$ORIGIN/${to_libraries}")
  install(TARGETS cairn_cli_checked RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} OPTIONAL)
endif()
