# Code that is compiled once for each instruction set, and chosen when the program runs.
#
#   hlwq_add_dispatch(<target> [ISAS <isa>...])
#       Gives <target> the functions of hlwq/dispatch/dispatch.hpp with the kernels of these instruction sets; where
#       there is no such target, a static library of that name is made. Once in a program.
#
#   hlwq_add_isa_sources(<target> SOURCES <file>... [ISAS <isa>...] [LIBRARIES <library>...])
#       Compiles files of the program itself once for each instruction set. A file exports what HLWQ_FOR_ISA(<name>_)
#       names and nothing else: its functions live in `<namespace>::inline HLWQ_CODE_NAMESPACE` or in an anonymous
#       namespace, and it has no variable whose initialisation runs code. <target> finds the list of what was compiled
#       in the generated header <target>_isas.hpp, as the macro HLWQ_COMPILED_ISAS:
#
#           #define ENTRY(isa) {#isa, &kernels_##isa},
#           for (const auto& [name, kernels] : {HLWQ_COMPILED_ISAS(ENTRY)}) if (name == hlwq::dispatch::isa()) ...
#
#       LIBRARIES are what the files include the headers of, beside hlwq.
#
# Without ISAS every one that the compiler can produce for this architecture and that is not so rare that it is made
# only when it is asked for. One that is asked for must be possible.
# Each is at least optimised with -O2, so that no function of the standard library is left as a copy that the linker
# could give to code for another processor.

# Flags of each instruction set, as processor_runs of hlwq/dispatch/processor.hpp knows them; what a compiler does not
# take is left out. `isas`: all for this architecture, the best one first, which is the order in which they are chosen.
# `isas_on_request`: those of them that few processors have as their best.
macro(hlwq_isa_table)
    set(flags_generic "")
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
        set(isas avx512vbmi avx512vnni avx512 avx2vnni avx2 generic)
        set(isas_on_request avx512)
        set(flags_avx512vbmi -march=x86-64-v4 -mavx512vbmi -mavx512vnni)
        set(flags_avx512vnni -march=x86-64-v4 -mavx512vnni)
        set(flags_avx512 -march=x86-64-v4)
        set(flags_avx2vnni -march=x86-64-v3 -mavxvnni)
        set(flags_avx2 -march=x86-64-v3)
        set(flags_generic -march=x86-64)  # where CMAKE_CXX_FLAGS ask for more
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
        set(isas neon_dotprod neon)
        set(flags_neon_dotprod -march=armv8.2-a+dotprod)
        set(flags_neon -march=armv8-a)
    else()
        set(isas generic)
    endif()
endmacro()

# Sets <chosen> to the instruction sets of <target>: those named behind it, or all that the compiler can produce.
function(hlwq_choose_isas chosen target)
    hlwq_isa_table()
    foreach(isa IN LISTS ARGN)
        if(NOT isa IN_LIST isas)
            list(JOIN isas ", " list)
            message(FATAL_ERROR "${target}: instruction sets: expected some of ${list}, found ${isa}")
        endif()
    endforeach()
    include(CheckCXXCompilerFlag)
    set(possible "")
    foreach(isa IN LISTS isas)
        if((ARGN AND NOT isa IN_LIST ARGN) OR (NOT ARGN AND isa IN_LIST isas_on_request))
            continue()
        endif()
        string(TOUPPER HLWQ_CXX_COMPILES_${isa} compiles)
        list(JOIN flags_${isa} " " flags)
        set(CMAKE_REQUIRED_QUIET ON)
        check_cxx_compiler_flag("${flags}" ${compiles})
        if(${compiles})
            list(APPEND possible ${isa})
        elseif(ARGN)
            message(FATAL_ERROR "${target}: the compiler does not take ${flags}, the flags of ${isa}")
        endif()
    endforeach()
    set(${chosen} ${possible} PARENT_SCOPE)
endfunction()

# Sources for one instruction set, as a library of objects that become part of <target>.
function(hlwq_add_objects target objects isa)
    hlwq_isa_table()
    add_library(${objects} OBJECT EXCLUDE_FROM_ALL ${ARGN})
    target_compile_options(${objects} PRIVATE ${flags_${isa}} $<$<NOT:$<CONFIG:Release>>:-O2> -fno-lto)
    target_compile_definitions(${objects} PRIVATE HLWQ_PROMISED)
    target_link_libraries(${objects} PRIVATE hlwq::hlwq)
    # The same backend as everywhere, if the project has taken one.
    foreach(backend highway xsimd)
        if(TARGET hlwq::${backend})
            target_link_libraries(${objects} PRIVATE hlwq::${backend})
            break()
        endif()
    endforeach()
    set_target_properties(${objects} PROPERTIES POSITION_INDEPENDENT_CODE ON INTERPROCEDURAL_OPTIMIZATION OFF)
    target_sources(${target} PRIVATE $<TARGET_OBJECTS:${objects}>)
endfunction()

# The header that lists what was compiled.
function(hlwq_list_isas header)
    list(TRANSFORM ARGN REPLACE "(.+)" "X(\\1)" OUTPUT_VARIABLE entries)
    list(JOIN entries " " entries)
    file(CONFIGURE OUTPUT ${header} @ONLY CONTENT
"// Generated: the instruction sets that were compiled, the best one first.
#pragma once
#undef HLWQ_COMPILED_ISAS
#define HLWQ_COMPILED_ISAS(X) @entries@
")
endfunction()

function(hlwq_add_dispatch target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" ISAS)
    if(arg_UNPARSED_ARGUMENTS)
        message(FATAL_ERROR "hlwq_add_dispatch(${target}): unknown arguments ${arg_UNPARSED_ARGUMENTS}")
    endif()
    set(folder ${CMAKE_CURRENT_BINARY_DIR}/${target}_dispatch)
    hlwq_choose_isas(isas ${target} ${arg_ISAS})
    hlwq_list_isas(${folder}/hlwq_dispatch_isas.hpp ${isas})
    if(TARGET ${target})
        set_property(TARGET ${target} APPEND PROPERTY LINK_LIBRARIES hlwq::hlwq)
    else()
        add_library(${target} STATIC EXCLUDE_FROM_ALL)
        target_link_libraries(${target} PUBLIC hlwq::hlwq)
    endif()
    foreach(isa IN LISTS isas)
        configure_file(${CMAKE_CURRENT_FUNCTION_LIST_DIR}/dispatch_isa.cpp.in ${folder}/${isa}.cpp @ONLY)
        hlwq_add_objects(${target} ${target}_${isa} ${isa} ${folder}/${isa}.cpp)
    endforeach()
    target_sources(${target} PRIVATE ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/dispatch.cpp)
    target_include_directories(${target} PRIVATE ${folder})
endfunction()

function(hlwq_add_isa_sources target)
    cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;ISAS;LIBRARIES")
    if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
        message(FATAL_ERROR "hlwq_add_isa_sources(${target}): expected SOURCES, ISAS, LIBRARIES, found ${ARGN}")
    endif()
    set(folder ${CMAKE_CURRENT_BINARY_DIR}/${target}_isas)
    hlwq_choose_isas(isas ${target} ${arg_ISAS})
    hlwq_list_isas(${folder}/${target}_isas.hpp ${isas})
    foreach(isa IN LISTS isas)
        set(objects ${target}_own_${isa})
        hlwq_add_objects(${target} ${objects} ${isa} ${arg_SOURCES})
        target_link_libraries(${objects} PRIVATE ${arg_LIBRARIES})
    endforeach()
    target_include_directories(${target} PRIVATE ${folder})
endfunction()
