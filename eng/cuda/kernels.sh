#!/usr/bin/env bash
# Builds moekernels_cuda, and the program that records a GPU's instructions, for the architectures that CI checks. Then compares
# the library's kernels with what is written down about them.
#
#   eng/cuda/kernels.sh check    registers and shared memory: native/cuda/resources.tsv; instructions: native/cuda/instructions.txt
#   eng/cuda/kernels.sh update   writes resources.tsv anew
#   eng/cuda/kernels.sh build    only builds
#
# nvcc is that of CUDACXX, else the one that .ci/cuda-toolkit.sh finds. Exits with 77 when there is none, or when it is another
# one than the table was made with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

mode=${1:-}
case $mode in
    check|update|build) ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac

export CUDACXX=${CUDACXX:-$(.ci/cuda-toolkit.sh)}
cmake -DRID=linux-x64 -DVARIANT=cuda -DCUDA=ON -DARCHITECTURES=80,90a -DTESTS=OFF -DWARNINGS_AS_ERRORS=ON \
    -DTARGETS=moekernels_cuda,moekernels_conformance_gpu -P eng/NativeBuild.cmake
library=artifacts/native/linux-x64-Release-cuda/bin/libmoekernels_cuda.so

case $mode in
    update) python3 eng/cuda/resources.py update --nvcc "$CUDACXX" --library "$library" ;;
    check)
        status=0
        python3 eng/cuda/instructions.py --nvcc "$CUDACXX" --library "$library" || status=$?
        # Skipping the second does not hide a failure of the first.
        python3 eng/cuda/resources.py check --nvcc "$CUDACXX" --library "$library" || status=$((status == 0 ? $? : status))
        exit "$status" ;;
esac
