# Install rules: headers, a CMake package that does not depend on the architecture, a pkg-config file.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/hlwq)
set(pkgconfig_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)

# One export per target, so that the package defines a feature only where its dependency is found.
install(TARGETS hlwq EXPORT hlwqTargets FILE_SET HEADERS COMPONENT hlwq_Development)
install(EXPORT hlwqTargets NAMESPACE hlwq:: DESTINATION ${package_dir} COMPONENT hlwq_Development)
foreach(feature IN LISTS hlwq_features)
    install(TARGETS hlwq_${feature} EXPORT hlwq-${feature}-targets FILE_SET HEADERS COMPONENT hlwq_Development)
    install(EXPORT hlwq-${feature}-targets NAMESPACE hlwq:: DESTINATION ${package_dir} COMPONENT hlwq_Development)
endforeach()

configure_package_config_file(cmake/hlwqConfig.cmake.in hlwqConfig.cmake
    INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(hlwqConfigVersion.cmake COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/hlwqConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/hlwqConfigVersion.cmake
    cmake/hlwqFeatures.cmake cmake/hlwq_add_dispatch.cmake cmake/dispatch.cpp cmake/dispatch_isa.cpp.in
    DESTINATION ${package_dir} COMPONENT hlwq_Development)

# The prefix of the .pc file is where the file lies, so that an installed tree can be moved.
cmake_path(IS_ABSOLUTE CMAKE_INSTALL_DATADIR datadir_is_absolute)
if(datadir_is_absolute)
    set(hlwq_pc_prefix ${CMAKE_INSTALL_PREFIX})
else()
    cmake_path(RELATIVE_PATH CMAKE_INSTALL_PREFIX BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX}/${pkgconfig_dir}
        OUTPUT_VARIABLE up)
    set(hlwq_pc_prefix "\${pcfiledir}/${up}")
endif()
cmake_path(IS_ABSOLUTE CMAKE_INSTALL_INCLUDEDIR includedir_is_absolute)
if(includedir_is_absolute)
    set(hlwq_pc_includedir ${CMAKE_INSTALL_INCLUDEDIR})
else()
    set(hlwq_pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(cmake/hlwq.pc.in hlwq.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/hlwq.pc DESTINATION ${pkgconfig_dir} COMPONENT hlwq_Development)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/hlwq COMPONENT hlwq_Development)
