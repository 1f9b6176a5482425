#!/usr/bin/env bash
# Builds MoEKernels. The same targets and options as build.ps1; both only call CMake and dotnet.
#
#   ./build.sh [native|managed|test|bench|pack|all]
#              [--configuration Release|Debug]  managed code (default Release)
#              [--native-configuration Release|Debug]  kernels (default Release)
#              [--cuda auto|on|off] [--architectures 80,90a]
#              [-- arguments for the benchmark program]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() { sed -n '2,9s/^# \{0,1\}//p' "$0"; }

target=all configuration=Release native_configuration=Release cuda='' architectures='' target_given=''
while [ $# -gt 0 ]; do
    case $1 in
        native|managed|test|bench|pack|all)
            if [ -n "$target_given" ]; then echo "build.sh: one target at a time, got '$target' and '$1'" >&2; exit 2; fi
            target=$1 target_given=yes; shift ;;
        --configuration|--native-configuration|--cuda|--architectures)
            if [ $# -lt 2 ]; then echo "build.sh: $1 needs a value" >&2; exit 2; fi
            case $1 in
                --configuration) configuration=$2 ;;
                --native-configuration) native_configuration=$2 ;;
                --cuda) cuda=$2 ;;
                --architectures) architectures=$2 ;;
            esac
            shift 2 ;;
        --) shift; break ;;
        -h|--help) usage; exit 0 ;;
        *) echo "build.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
    esac
done
for value in "$configuration" "$native_configuration"; do
    case $value in Release|Debug) ;; *) echo "build.sh: '$value' is no configuration; expected Release or Debug" >&2; exit 2 ;; esac
done
case $cuda in ''|auto|on|off) ;; *) echo "build.sh: --cuda '$cuda'; expected auto, on or off" >&2; exit 2 ;; esac

native_options=(-DCONFIG="$native_configuration")
managed_options=(--configuration "$configuration" -p:NativeConfiguration="$native_configuration")
if [ -n "$cuda" ]; then
    native_options+=(-DCUDA="$cuda"); managed_options+=(-p:NativeCuda="$cuda")
fi
if [ -n "$architectures" ]; then
    native_options+=(-DARCHITECTURES="$architectures")
    # MSBuild separates properties by commas; the escaped one reaches CMake as a comma.
    managed_options+=(-p:NativeCudaArchitectures="${architectures//,/%2c}")
fi

native() { cmake "${native_options[@]}" "$@" -P eng/NativeBuild.cmake; }
managed() { dotnet build MoEKernels.sln "${managed_options[@]}"; }
tests() { native -DRUN_TESTS=ON; dotnet test MoEKernels.sln "${managed_options[@]}"; }
bench() { dotnet run --project bench/MoEKernels.Benchmarks "${managed_options[@]}" -- "$@"; }
pack() { dotnet pack MoEKernels.sln "${managed_options[@]}" --output artifacts/packages; }

case $target in
    native) native ;;
    managed) managed ;;
    test) tests ;;
    bench) bench "$@" ;;
    pack) pack ;;
    all) native; managed; tests; pack ;;
esac
