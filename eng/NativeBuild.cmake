# Configures (once) and builds the native library; called by NativeBuild.targets and by build.sh / build.ps1, so that every
# way of building shares one build folder per runtime identifier and configuration.
#
#   cmake [-DCONFIG=Release] [-DRID=linux-x64] [-DSANITIZE=address|thread] [-DVARIANT=name] [-DTARGETS=moekernels_libraries]
#         [-DTESTS=ON|OFF] [-DRUN_TESTS=ON] [-DLABEL=kernels] [-DCUDA=AUTO|ON|OFF] [-DARCHITECTURES=all|80,90a]
#         [-DWARNINGS_AS_ERRORS=ON|OFF] [-DVERSION=1.2.3] -P eng/NativeBuild.cmake
#
# An option that is not given keeps what the build folder was configured with before. Libraries end up in
# artifacts/native/<rid>-<config>/bin (with a multi-configuration generator in a folder <config> below it). A sanitizer and a
# VARIANT each add their name to that folder's, so that builds with other options leave the one that .NET uses alone. LABEL
# runs the tests with that label only.

cmake_minimum_required(VERSION 3.22)

get_filename_component(root "${CMAKE_CURRENT_LIST_DIR}" DIRECTORY)
set(source_dir "${root}/native")

# One line in the form that MSBuild and IDEs list as an error, then stop.
function(fail code text)
    message(NOTICE "native build : error ${code}: ${text}")
    message(FATAL_ERROR "The native build stopped.")
endfunction()

set(install_hint
    "Debian/Ubuntu: apt-get install g++ cmake ninja-build. Windows: Visual Studio 2022 or its Build Tools with the workload 'Desktop development with C++'. macOS: xcode-select --install, brew install cmake.")

if(NOT CONFIG)
    set(CONFIG Release)
endif()

if(NOT RID)
    cmake_host_system_information(RESULT processor QUERY OS_PLATFORM)
    string(TOLOWER "${processor}" processor)
    if(processor MATCHES "^(arm64|aarch64)$")
        set(processor arm64)
    else()
        set(processor x64)
    endif()
    if(CMAKE_HOST_WIN32)
        set(RID win-${processor})
    elseif(CMAKE_HOST_APPLE)
        set(RID osx-${processor})
    else()
        set(RID linux-${processor})
    endif()
endif()

set(build_dir "${root}/artifacts/native/${RID}-${CONFIG}")
if(SANITIZE)
    string(APPEND build_dir "-${SANITIZE}")
endif()
if(VARIANT)
    string(APPEND build_dir "-${VARIANT}")
endif()
if(RUN_TESTS)
    set(TESTS ON)
endif()

# Two builds at once (an IDE beside a terminal, two test runs) must not configure or link in the same folder.
file(LOCK "${build_dir}.lock" GUARD PROCESS TIMEOUT 3600 RESULT_VARIABLE lock_result)
if(NOT lock_result STREQUAL "0")
    fail(MOEN001 "another native build has held ${build_dir}.lock for an hour: ${lock_result}")
endif()

# --- configure ---------------------------------------------------------------------------------------------------------------

set(cache "${build_dir}/CMakeCache.txt")
set(stamp "${build_dir}/configured.stamp")

# A checkout that was moved or copied carries a cache that CMake refuses; starting over is what its message would ask for.
if(EXISTS "${cache}")
    file(STRINGS "${cache}" home REGEX "^CMAKE_HOME_DIRECTORY:INTERNAL=")
    if(NOT home STREQUAL "CMAKE_HOME_DIRECTORY:INTERNAL=${source_dir}")
        file(REMOVE_RECURSE "${build_dir}")
    endif()
endif()

set(options "")
set(must_configure TRUE)
if(EXISTS "${cache}" AND EXISTS "${stamp}")
    set(must_configure FALSE)
endif()

# Asks for a cache entry; a new or different one means that CMake has to configure again.
function(request name value)
    list(APPEND options "-D${name}=${value}")
    set(options "${options}" PARENT_SCOPE)
    set(cached "")
    if(EXISTS "${cache}")
        file(STRINGS "${cache}" cached REGEX "^${name}:[A-Z]+=")
    endif()
    string(REGEX REPLACE "^${name}:[A-Z]+=" "" cached "${cached}")
    if(NOT cached STREQUAL "${value}")
        set(must_configure TRUE PARENT_SCOPE)
    endif()
endfunction()

request(CMAKE_BUILD_TYPE "${CONFIG}")
if(NOT EXISTS "${cache}")
    # Someone who only wants the library needs no GoogleTest, and may have a compiler with warnings nobody has seen here.
    if(NOT DEFINED TESTS)
        set(TESTS OFF)
    endif()
    if(NOT DEFINED WARNINGS_AS_ERRORS)
        set(WARNINGS_AS_ERRORS OFF)
    endif()
endif()
if(DEFINED TESTS)
    request(MOEKERNELS_BUILD_TESTS "${TESTS}")
endif()
if(DEFINED WARNINGS_AS_ERRORS)
    request(MOEKERNELS_WARNINGS_AS_ERRORS "${WARNINGS_AS_ERRORS}")
endif()
if(DEFINED SANITIZE)
    request(MOEKERNELS_SANITIZE "${SANITIZE}")
endif()
if(DEFINED CUDA)
    string(TOUPPER "${CUDA}" CUDA)
    request(MOEKERNELS_CUDA "${CUDA}")
endif()
if(DEFINED ARCHITECTURES)
    request(MOEKERNELS_CUDA_ARCHITECTURES "${ARCHITECTURES}")
endif()
if(DEFINED VERSION)
    request(MOEKERNELS_VERSION "${VERSION}")
endif()

find_program(git_program git)
if(git_program)
    execute_process(
        COMMAND "${git_program}" -C "${root}" rev-parse --short=12 HEAD
        OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE git_result)
    if(git_result EQUAL 0)
        request(MOEKERNELS_COMMIT "${commit}")
    endif()
endif()

if(must_configure)
    file(REMOVE "${stamp}")
    set(generator "")
    if(NOT EXISTS "${cache}" AND NOT DEFINED ENV{CMAKE_GENERATOR})
        find_program(ninja_program NAMES ninja ninja-build)
        # On Windows Ninja finds the compiler only inside a developer prompt; the Visual Studio generator finds it anywhere.
        if(ninja_program AND (NOT CMAKE_HOST_WIN32 OR DEFINED ENV{VSCMD_ARG_TGT_ARCH}))
            set(generator -G Ninja)
        endif()
    endif()

    execute_process(
        COMMAND "${CMAKE_COMMAND}" -S "${source_dir}" -B "${build_dir}" ${generator} ${options}
        OUTPUT_VARIABLE output ERROR_VARIABLE output RESULT_VARIABLE result)
    if(NOT result EQUAL 0)
        message(NOTICE "${output}")
        if(output MATCHES "No CMAKE_CXX_COMPILER could be found|CMAKE_CXX_COMPILER-NOTFOUND|could not find any instance of Visual Studio|CMAKE_CXX_COMPILER not set")
            # What is cached now would hide a compiler that is installed later.
            file(REMOVE_RECURSE "${build_dir}")
            fail(MOEN002 "no C++20 compiler was found. ${install_hint} To build the managed code only: -p:SkipNativeBuild=true.")
        endif()
        fail(MOEN003 "CMake could not configure ${source_dir}; its messages are above.")
    endif()
    file(TOUCH "${stamp}")
endif()

# --- build -------------------------------------------------------------------------------------------------------------------

set(build_arguments --config ${CONFIG})
if(TARGETS)
    string(REPLACE "," ";" targets "${TARGETS}")
    list(APPEND build_arguments --target ${targets})
endif()
if(NOT DEFINED ENV{CMAKE_BUILD_PARALLEL_LEVEL})
    cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
    list(APPEND build_arguments --parallel ${cores})
endif()

execute_process(COMMAND "${CMAKE_COMMAND}" --build "${build_dir}" ${build_arguments} RESULT_VARIABLE result)
if(NOT result EQUAL 0)
    fail(MOEN004 "the native library did not compile; the compiler's messages are above.")
endif()

# --- test --------------------------------------------------------------------------------------------------------------------

if(RUN_TESTS)
    set(test_arguments --test-dir "${build_dir}" --build-config ${CONFIG} --output-on-failure --no-tests=error)
    if(NOT DEFINED ENV{CTEST_PARALLEL_LEVEL})
        cmake_host_system_information(RESULT cores QUERY NUMBER_OF_LOGICAL_CORES)
        list(APPEND test_arguments --parallel ${cores})
    endif()
    if(LABEL)
        list(APPEND test_arguments --label-regex "^${LABEL}$")
    endif()
    execute_process(
        COMMAND "${CMAKE_CTEST_COMMAND}" ${test_arguments}
        RESULT_VARIABLE result)
    if(NOT result EQUAL 0)
        fail(MOEN006 "native tests failed; CTest's report is above.")
    endif()
endif()
