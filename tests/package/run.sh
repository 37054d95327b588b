#!/usr/bin/env bash
# hlwq as others meet it: installed, included, through pkg-config, Conan and vcpkg; in folders whose names have a space.
#   tests/package/run.sh [PATTERN]   runs the checks whose names match PATTERN; COMPILERS overrides the compilers
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/tests/package
work=$root/build/package/with\ space
pattern=${1:-.}
read -ra compilers <<<"${COMPILERS:-g++ clang++}"
warnings=(-Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror)
v3=(-march=x86-64-v3 -maes -mpclmul) # Highway wants AES and PCLMUL beside AVX2
run=0
failed=()

# check NAME COMMAND...: one line for a success, the end of the output for a failure
check() {
    local name=$1 log
    shift
    [[ $name == install || $name =~ $pattern ]] || return 0 # the others need what it installs
    run=$((run + 1))
    log=$work/logs/${name//[^A-Za-z0-9.+-]/_}.log
    if ("$@") >"$log" 2>&1; then # a subshell: a check may change folder; set -e does not reach into it
        echo "ok      $name$(tail -n 1 "$log" | sed -n 's/^note: /  -- /p')"
    else
        echo "FAILED  $name"
        tail -n 40 "$log" | sed 's/^/        /'
        failed+=("$name")
    fi
}

fail() {
    echo "$*"
    return 1
}

# ---- the installed package

install_hlwq() {
    rm -rf "$work/prefix" "$work/first prefix" "$work/build"
    cmake -S "$root" -B "$work/build" -DHLWQ_BUILD_TESTS=OFF -DHLWQ_BUILD_BENCH=OFF -DHLWQ_BUILD_EXAMPLES=OFF \
        -DCMAKE_INSTALL_PREFIX="$work/first prefix" &&
        cmake --install "$work/build" &&
        mv "$work/first prefix" "$work/prefix" && # it must not remember where it was put
        { ! grep -rlF -e "$work" -e "$root" "$work/prefix/share" || fail "absolute paths in the files above"; } &&
        DESTDIR=$work/staged cmake --install "$work/build" &&
        [[ -f "$work/staged$work/first prefix/include/hlwq/config.hpp" ]] &&
        (cd "$root/include" && find hlwq -name '*.hpp' | sort) >"$work/headers.source" &&
        (cd "$work/prefix/include" && find . -name '*.hpp' | sed 's,^\./,,' | sort) >"$work/headers.installed" &&
        diff "$work/headers.source" "$work/headers.installed"
}

# consumer NAME CXX CMAKE_ARGS...: configure, build, run
consumer() {
    local folder=$work/$1 compiler=$2
    shift 2
    rm -rf "$folder"
    cmake -S "$here/consumer" -B "$folder" -G Ninja -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$work/prefix" \
        "$@" && cmake --build "$folder" && "$folder/consumer"
}

# refused TEXT CMAKE_ARGS...: find_package must fail and say TEXT
refused() {
    local text=$1 folder="$work/refused" output
    shift
    rm -rf "$folder"
    if output=$(cmake -S "$here/consumer" -B "$folder" -G Ninja -DCONSUMER_FROM=package \
        -DCMAKE_PREFIX_PATH="$work/prefix" "$@" 2>&1); then
        fail "the package was accepted: $output"
        return 1
    fi
    tr -s '[:space:]' ' ' <<<"$output" | grep -F -- "$text" || fail "expected \"$text\" in: $output"
}

subproject() {
    local name=$1
    consumer "$@" && DESTDIR=$work/nothing cmake --install "$work/$name" &&
        { [[ ! -e $work/nothing ]] || fail "a subproject installs files: $(find "$work/nothing" -type f)"; }
}

pkg_config() {
    local compiler=$1 cflags
    cflags=$(PKG_CONFIG_PATH="$work/prefix/share/pkgconfig" pkg-config --cflags hlwq) || return 1
    eval "local flags=($cflags)" # pkg-config quotes for the shell
    "$compiler" -std=c++20 "${warnings[@]}" "${flags[@]}" "$here/consumer/main.cpp" -o "$work/pkg-config.$compiler" &&
        "$work/pkg-config.$compiler"
}

# ---- translation units

compile() { # compile CXX OUTPUT ARGS...
    local compiler=$1 output=$2
    shift 2
    "$compiler" -std=c++20 "${warnings[@]}" -I"$root/include" "$@" -o "$output"
}

two_units() {
    local compiler=$1 out="$work/two_units.$1"
    compile "$compiler" "$out.a.o" -O0 -c "$here/two_units/a.cpp" &&
        compile "$compiler" "$out.b.o" -O0 -c "$here/two_units/b.cpp" &&
        "$compiler" "$out.a.o" "$out.b.o" -o "$out" -pthread && "$out"
}

# One source under three sets of flags in one program; what the linker may merge must not be code.
mixed_isa() {
    local compiler=$1 optimisation=$2 out="$work/mixed_isa.$1$2" level
    [[ $(uname -m) == x86_64 ]] || { echo "note: only on x86-64" && return 0; }
    for level in v2 v3 native; do
        local flags=(-march=x86-64-v2)
        [[ $level == v3 ]] && flags=("${v3[@]}")
        [[ $level == native ]] && flags=(-march=native)
        compile "$compiler" "$out.$level.o" "$optimisation" "${flags[@]}" -DUNIT="unit_$level" \
            -c "$here/mixed_isa/unit.cpp" || return 1
    done
    compile "$compiler" "$out.main.o" -c "$here/mixed_isa/main.cpp" &&
        "$compiler" "$out".{v2,v3,native,main}.o -o "$out" &&
        "$out" || return 1
    # Without optimisation the accessors of views remain as functions; what they do is the same everywhere.
    [[ $optimisation == -O0 ]] || python3 "$here/mixed_isa/check_symbols.py" "$out".{v2,v3,native}.o
}

no_exceptions() {
    local compiler=$1 out="$work/no_exceptions.$1"
    compile "$compiler" "$out" -fno-exceptions -fno-rtti "$here/no_exceptions/main.cpp" && "$out"
}

# ---- Conan and vcpkg

conan_package() {
    local environment=$work/conan
    python3 -m venv "$environment" || return 1
    if ! "$environment/bin/pip" install --quiet "conan>=2,<3"; then
        echo "note: skipped, pip cannot install conan here"
        return 0
    fi
    export CONAN_HOME=$work/conan-home PATH=$environment/bin:$PATH
    rm -rf "$CONAN_HOME"
    local create=(conan create "$root" --no-remote --build=missing -s compiler.cppstd=20
        -c "tools.cmake.cmake_layout:test_folder=$work/conan-test" -c tools.cmake.cmaketoolchain:user_presets=)
    conan profile detect &&
        conan create "$here/conan_stub" --name highway --version 1.4.0 --no-remote &&
        conan create "$here/conan_stub" --name xsimd --version 14.0.0 --no-remote &&
        conan create "$here/conan_stub" --name nlohmann_json --version 3.12.0 --no-remote &&
        "${create[@]}" &&
        "${create[@]}" -o "&:with_threads=False" -o "&:with_highway=True" -o "&:with_io=True" &&
        "${create[@]}" -o "&:with_xsimd=True" &&
        conan list 'hlwq/*:*' --format=json >"$work/conan.json" &&
        one_package_id "$work/conan.json" &&
        refused_by_conan "lower than the required C\+\+ standard" -s compiler.cppstd=17 &&
        refused_by_conan "takes one SIMD backend" -s compiler.cppstd=20 -o "hlwq/*:with_highway=True" \
            -o "hlwq/*:with_xsimd=True"
}

one_package_id() {
    python3 - "$1" <<'EOF'
import json, sys
(recipe,) = json.load(open(sys.argv[1]))["Local Cache"].values()
packages = {package for revision in recipe["revisions"].values() for package in revision["packages"]}
assert len(packages) == 1, f"one package id expected, found {packages}"
EOF
}

refused_by_conan() {
    local text=$1 output
    shift
    if output=$(conan install --requires="hlwq/$(version)" --no-remote --output-folder="$work/conan-install" "$@" 2>&1); then
        fail "Conan accepted $*"
        return 1
    fi
    grep -iE -- "$text" <<<"$output" || fail "expected \"$text\" in: $output"
}

version() {
    sed -n 's/^#define HLWQ_VERSION_[A-Z]* //p' "$root/include/hlwq/config.hpp" | paste -sd.
}

vcpkg_port() {
    rm -rf "$work/vcpkg"
    cmake -DWORK="$work/vcpkg" -P "$here/vcpkg_port.cmake" &&
        consumer vcpkg-consumer g++ -DCONSUMER_FROM=package -DCONSUMER_COMPONENTS="threads" \
            -DCMAKE_PREFIX_PATH="$work/vcpkg/packages/hlwq"
}

# ---- all of it

rm -rf "$work"
mkdir -p "$work/logs"
check "install" install_hlwq
for cxx in "${compilers[@]}"; do
    check "$cxx find_package" consumer "package.$cxx" "$cxx" -DCONSUMER_FROM=package
    for component in highway xsimd threads io; do
        check "$cxx find_package $component" consumer "package.$cxx.$component" "$cxx" -DCONSUMER_FROM=package \
            -DCONSUMER_COMPONENTS="$component" -DCONSUMER_FLAGS="-march=native"
    done
    check "$cxx find_package all" consumer "package.$cxx.all" "$cxx" -DCONSUMER_FROM=package \
        -DCONSUMER_COMPONENTS="highway;threads;io" -DCONSUMER_VERSION="$(version)"
    check "$cxx add_subdirectory" subproject "subproject.$cxx" "$cxx" -DCONSUMER_FROM=subproject \
        -DCONSUMER_SOURCE="$root" -DCONSUMER_COMPONENTS="highway;threads;io"
    check "$cxx FetchContent" subproject "fetch.$cxx" "$cxx" -DCONSUMER_FROM=fetch \
        -DFETCHCONTENT_SOURCE_DIR_HLWQ="$root" -DFETCHCONTENT_FULLY_DISCONNECTED=ON -DCONSUMER_COMPONENTS="threads"
    check "$cxx find_package dispatch" consumer "package.$cxx.dispatch" "$cxx" -DCONSUMER_FROM=package \
        -DCONSUMER_COMPONENTS="dispatch"
    if [[ $(uname -m) == x86_64 ]]; then
        check "$cxx dispatch in a subproject" consumer "dispatch.$cxx" "$cxx" -DCONSUMER_FROM=subproject \
            -DCONSUMER_SOURCE="$root" -DCONSUMER_ISAS="avx2;generic"
    fi
    check "$cxx pkg-config" pkg_config "$cxx"
    check "$cxx two units" two_units "$cxx"
    check "$cxx mixed instruction sets" mixed_isa "$cxx" -O2
    check "$cxx mixed instruction sets, not optimised" mixed_isa "$cxx" -O0
    check "$cxx no exceptions" no_exceptions "$cxx"
done
check "refused: unknown component" refused 'hlwq has no component "warp"; there are: highway, xsimd, threads, io, dispatch.' \
    -DCONSUMER_COMPONENTS=warp
check "refused: component without its dependency" refused 'hlwq component "io" needs nlohmann_json' \
    -DCONSUMER_COMPONENTS=io -DCMAKE_DISABLE_FIND_PACKAGE_nlohmann_json=ON
check "refused: next minor version" refused 'compatible with requested version "0.99"' -DCONSUMER_VERSION=0.99
check "versions agree" python3 "$here/check_versions.py"
check "vcpkg port" vcpkg_port
check "Conan" conan_package

if ((run <= 1)) && [[ $pattern != install ]]; then
    echo "no check matches \"$pattern\""
    exit 1
fi
if ((${#failed[@]})); then
    printf '%d of %d package checks failed:' "${#failed[@]}" "$run"
    printf ' [%s]' "${failed[@]}"
    printf '\n'
    exit 1
fi
echo "all $run package checks passed"
