# The man page and bash's completions, written by the program itself, and a Debian package: cpack -G DEB in the build
# folder. What else is installed stands in cmake/install.cmake.
include(GNUInstallDirs)
if(NOT CMAKE_CROSSCOMPILING)
  add_custom_command(OUTPUT cairn.1 cairn.bash DEPENDS cairn_cli
    COMMAND cairn_cli --man > cairn.1
    COMMAND cairn_cli --completion bash > cairn.bash)
  add_custom_target(cairn_pages ALL DEPENDS cairn.1 cairn.bash)
  # OPTIONAL: a build of some targets may be installed too.
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cairn.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 OPTIONAL)
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cairn.bash
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME cairn OPTIONAL)
endif()
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/cairn RENAME copyright)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME cairn)
set(CPACK_PACKAGE_CONTACT "the developers of cairn")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "trains and uses image classifiers")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
# The packages that hold the libraries in use, found by dpkg-shlibdeps (Debian: dpkg-dev).
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_LIBRARY_OUTPUT_DIRECTORY})
include(CPack)
