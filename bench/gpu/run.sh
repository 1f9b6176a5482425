#!/usr/bin/env bash
# Builds, tests, checks and times MoEKernels on a machine with an NVIDIA GPU. Needs no network.
#
#   bench/gpu/run.sh GTEST_SOURCES OUT [option...]
#
#   GTEST_SOURCES        folder with GoogleTest's sources, such as third_party/googletest
#   OUT                  folder for what is written: summary.txt, run.log, conformance.txt, <gpu>/<date>-<commit>.{json,md}
#
#   --steps A,B,...      which steps, in this order; default: build,tests,sanitizers,conformance,check,time
#                          build        configures and builds with nvcc, for this machine's GPU only
#                          tests        the native tests on the GPU
#                          sanitizers   memcheck,racecheck,initcheck,synccheck: compute-sanitizer over some of the tests
#                          conformance  what each PTX wrapper makes of random bits, and whether the emulation does the same
#                          check        compare.py --check: results and gradients against formulas in f64
#                          time         compare.py --time: the headline points against everything there is
#                          sweep        compare.py --time: the wide grid against PyTorch's eager mode and cuBLAS
#   --limit SECONDS      for all steps together; a step gets what is left, at most its own budget
#   --build FOLDER       default: build/gpu; kept between calls
#   --filter PATTERNS    which tests the sanitizers run, as --gtest_filter takes them
#   --commit HASH        what is built, where git cannot tell
#   --merge JSON         results of an earlier run that the report of `time` or `sweep` shall keep
#   --dry-run            runs no step, says what each would do or why it cannot, and checks what can be checked here
#
# A step that fails does not stop the others. Exits with 0 when every step ran and passed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

declare -A budget=([build]=420 [tests]=240 [memcheck]=150 [racecheck]=150 [initcheck]=120 [synccheck]=120 [conformance]=30
                   [check]=300 [time]=560 [sweep]=560)

usage() { sed -n '2,27s/^# \{0,1\}//p' bench/gpu/run.sh; }
refuse() { echo "run.sh: $*" >&2; exit 2; }

# --- arguments -----------------------------------------------------------------------------------------------------------

steps=build,tests,sanitizers,conformance,check,time limit='' build=build/gpu commit='' merge='' dry_run='' folders=()
filter='*Gate*:*RankLora*:*CoreMerge*:*Dropout*'
while [ $# -gt 0 ]; do
    case $1 in
        --steps|--limit|--build|--filter|--commit|--merge)
            [ $# -ge 2 ] || refuse "$1 needs a value"
            declare "${1#--}=$2"; shift 2 ;;
        --dry-run) dry_run=yes; shift ;;
        -h|--help) usage; exit 0 ;;
        -*) usage >&2; refuse "unknown option '$1'" ;;
        *) folders+=("$1"); shift ;;
    esac
done
[ ${#folders[@]} -eq 2 ] || { usage >&2; refuse "got ${#folders[@]} folders, expected GTEST_SOURCES and OUT"; }
gtest=${folders[0]} out=${folders[1]}
[[ $limit =~ ^[0-9]*$ ]] || refuse "--limit '$limit'; expected seconds"
steps=${steps//sanitizers/memcheck,racecheck,initcheck,synccheck}
for step in ${steps//,/ }; do
    [ -n "${budget[$step]:-}" ] || refuse "unknown step '$step'; expected some of ${!budget[*]}"
done
[ -z "$merge" ] || [ -f "$merge" ] || refuse "--merge '$merge' is no file"
commit=${commit:-$(git rev-parse --short=12 HEAD 2>/dev/null)}

# --- what a step needs: each prints why it is missing --------------------------------------------------------------------

nvcc=${CUDACXX:-$(command -v nvcc)}
sanitizer=$(command -v compute-sanitizer || { [ -n "$nvcc" ] && ls "$(dirname "$nvcc")/compute-sanitizer" 2>/dev/null; })
python=$(command -v python3)
bin=$build/bin

without_gpu() {
    if ! command -v nvidia-smi >/dev/null; then
        echo "no NVIDIA GPU: there is no nvidia-smi"
    elif ! nvidia-smi --query-gpu=name --format=csv,noheader >/dev/null 2>&1; then
        echo "no NVIDIA GPU: $(nvidia-smi 2>&1 | head -n 1)"
    fi
}
without_program() { [ -n "$2" ] || echo "$1 is not on PATH"; }
without_file() { [ -e "$1" ] || echo "$1 is missing: $2"; }
without_torch() {
    if [ -z "$python" ]; then echo "python3 is not on PATH"; return; fi
    "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null \
        || echo "$python has no PyTorch that reaches a GPU"
}

# Prints what a step lacks, nothing when it can run.
lacks() {
    {
        without_gpu
        case $1 in
            build)
                without_program nvcc "$nvcc"
                without_program cmake "$(command -v cmake)"
                without_file "$gtest/CMakeLists.txt" "GTEST_SOURCES holds no GoogleTest" ;;
            tests) without_file "$bin/moekernels_tests" "the step build has not made it" ;;
            memcheck|racecheck|initcheck|synccheck)
                without_program compute-sanitizer "$sanitizer"
                without_file "$bin/moekernels_tests" "the step build has not made it" ;;
            conformance) without_file "$bin/moekernels_conformance_gpu" "the step build has not made it" ;;
            check|time|sweep)
                without_file "$bin/libmoekernels_cuda.so" "the step build has not made it"
                without_torch ;;
        esac
    } | paste --serial --delimiters=';' | sed 's/;/; /g'
}

# --- the steps -----------------------------------------------------------------------------------------------------------

# The GPU's compute capability as nvcc names it; 9.0 with the instructions that only Hopper has.
architecture() {
    local capability
    capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader --id=0 2>/dev/null | tr -d '. ')
    case $capability in 90) echo 90a ;; '') echo unknown ;; *) echo "$capability" ;; esac
}

run_build() {
    cmake -S native -B "$build" -DCMAKE_BUILD_TYPE=Release -DMOEKERNELS_CUDA=ON -DMOEKERNELS_BUILD_TESTS=ON \
        -DCMAKE_CUDA_COMPILER="$nvcc" -DMOEKERNELS_CUDA_ARCHITECTURES="$(architecture)" \
        -DMOEKERNELS_GTEST_SOURCE="$(realpath "$gtest")" -DMOEKERNELS_WARNINGS_AS_ERRORS=OFF -DMOEKERNELS_COMMIT="$commit" \
        && cmake --build "$build" --parallel "$(nproc)" \
        --target moekernels moekernels_cuda moekernels_tests moekernels_conformance_gpu moekernels_conformance
}

on_gpu() { MOEK_TEST_DEVICE=cuda MOEK_TEST_CUDA_LIBRARY=$(realpath "$bin/libmoekernels_cuda.so") "$@"; }

# The tests that a GPU can run, as the build has written it down: which ones, a minus, which of them not.
device_tests() { cat "$build/tests/device_tests.filter" 2>/dev/null || echo '*-'; }

run_tests() { on_gpu "$bin/moekernels_tests" --gtest_brief=1 --gtest_filter="$(device_tests)"; }
sanitize() {
    local without
    without=$(device_tests)
    on_gpu "$sanitizer" --tool "$1" --error-exitcode 86 --print-limit 50 \
        "$bin/moekernels_tests" --gtest_brief=1 --gtest_filter="$filter-*Arguments*:${without#*-}"
}
run_memcheck() { sanitize memcheck; }
run_racecheck() { sanitize racecheck; }
run_initcheck() { sanitize initcheck; }
run_synccheck() { sanitize synccheck; }
# The file is kept also when the emulation disagrees with it.
run_conformance() {
    "$bin/moekernels_conformance_gpu" write "$out/conformance.txt" && "$bin/moekernels_conformance" compare "$out/conformance.txt"
}

compare() { "$python" bench/gpu/compare.py --device cuda --library "$bin/libmoekernels.so" "$@"; }
timed() { compare --time --grid "$1" --out "$out" --seconds $(($2 > 120 ? $2 - 60 : $2 / 2)) --commit "$commit" ${merge:+--merge "$merge"}; }
# With clusters as well, where they may matter: a setting that is being tried.
run_check() { compare --check && compare --check --clusters 2 --only bf16 && compare --check --clusters 4 --only bf16; }
run_time() { timed headline "$seconds"; }
run_sweep() { timed sweep "$seconds"; }

# --- dry run -------------------------------------------------------------------------------------------------------------

if [ -n "$dry_run" ]; then
    for step in ${steps//,/ }; do
        reason=$(lacks "$step")
        if [ -n "$reason" ]; then
            printf '%-12s does not run here: %s\n' "$step" "$reason"
        else
            printf '%-12s runs here, for at most %d s\n' "$step" "${budget[$step]}"
        fi
    done
    if [ -z "$python" ]; then echo "compare.py is not tried: python3 is not on PATH"; exit 0; fi
    library=$(ls "$bin/libmoekernels.so" artifacts/native/*-Release/bin/libmoekernels.so 2>/dev/null | head -n 1)
    if [ -z "$library" ]; then echo "compare.py is not tried: there is no libmoekernels.so"; exit 0; fi
    status=0
    # The same numbers every time: whoever changes something else shall not meet a new one's rounding.
    plain=("$python" bench/gpu/compare.py --check --arrays plain --seed 1 --library "$library")
    "${plain[@]}" --device cpu || status=1
    emulated=${library%/*}/libmoekernels_cuda_emulated.so
    if [ -f "$emulated" ]; then
        "${plain[@]}" --device emulated --cuda-library "$emulated" || status=1
        "${plain[@]}" --device emulated --cuda-library "$emulated" --clusters 2 --only "rank_lora RankLora" || status=1
    fi
    exit "$status"
fi

# --- run -----------------------------------------------------------------------------------------------------------------

mkdir -p "$out" && out=$(realpath "$out") || exit 1
export nvcc sanitizer python bin build gtest out filter commit merge
export PYTHONUNBUFFERED=1
began=$SECONDS failures=0
: > "$out/run.log"
: > "$out/summary.txt"
for step in ${steps//,/ }; do
    from=$SECONDS
    seconds=${budget[$step]}
    if [ -n "$limit" ] && [ $((limit - (SECONDS - began))) -lt "$seconds" ]; then seconds=$((limit - (SECONDS - began))); fi
    reason=$(lacks "$step")
    if [ -z "$reason" ] && [ "$seconds" -lt 10 ]; then reason="no time is left"; fi
    printf '\n=== %s\n' "$step" | tee -a "$out/run.log"
    if [ -n "$reason" ]; then
        result="not run: $reason"
    else
        export seconds
        export -f run_"$step" architecture on_gpu device_tests sanitize compare timed
        # A group of its own, so that time's end reaches everything that a step has started.
        timeout --kill-after=10s "$seconds" bash -c "run_$step" 2>&1 | tee -a "$out/run.log"
        status=${PIPESTATUS[0]}
        case $status in
            0) result=ok ;;
            124|137) result="FAILED: out of time after $seconds s" ;;
            *) result="FAILED ($status)" ;;
        esac
    fi
    [ "$result" = ok ] || failures=$((failures + 1))
    printf '%-12s %4d s  %s\n' "$step" $((SECONDS - from)) "$result" | tee -a "$out/run.log" >> "$out/summary.txt"
    printf -- '--- %s: %s\n' "$step" "$result"
done
printf '\n'
cat "$out/summary.txt"
[ "$failures" -eq 0 ]
