#!/usr/bin/env bash
# Finds nvcc 12.4 or newer, or unpacks CUDA 12.4 beside the system, and prints the compiler's path on standard output.
#
#   .ci/cuda-toolkit.sh [PREFIX]
#
# An nvcc on PATH that is new enough is taken. Else PREFIX is used (by default ${XDG_CACHE_HOME:-~/.cache}/moekernels/cuda-12.4),
# and filled first when it is not there yet: with what compiling needs from Debian 13's packages, about 270 MB of them. They
# are unpacked, never installed: neither the system's packages nor its package lists change, and Debian 12's g++ is used.
# NVIDIA's terms apply to them.
#
# Exits with 77, after saying why, when no toolkit can be had here; that is no defect of this repository.
set -euo pipefail

readonly least=12.4
prefix=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/moekernels/cuda-12.4}
readonly prefix

say() { printf 'cuda-toolkit: %s\n' "$*" >&2; }
unavailable() { say "$*"; exit 77; }

version_of() { "$1" --version 2>/dev/null | sed -n 's/.*release \([0-9]*\.[0-9]*\).*/\1/p'; }
at_least() { [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$2" "$1" | sort --version-sort | head -n 1)" = "$2" ]; }

if found=$(command -v nvcc); then
    version=$(version_of "$found")
    if at_least "$version" "$least"; then
        say "nvcc $version from PATH: $found"
        echo "$found"
        exit 0
    fi
    say "nvcc ${version:-of an unknown version} on PATH is older than $least and is not used: $found"
fi

readonly stamp=$prefix/.ok
if [ -f "$stamp" ]; then
    say "nvcc $(version_of "$prefix/bin/nvcc") from $prefix"
    echo "$prefix/bin/nvcc"
    exit 0
fi

# ---------------------------------------------------------------------------------------------------------------------

for program in apt-get dpkg-deb; do
    command -v "$program" >/dev/null || unavailable "no nvcc $least or newer on PATH, and without $program none can be unpacked"
done
[ "$(dpkg --print-architecture)" = amd64 ] \
    || unavailable "no nvcc $least or newer on PATH, and packages are unpacked on amd64 only, not on $(dpkg --print-architecture)"

# The mirror that the system itself uses.
mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1 || true)
if [ -z "$mirror" ]; then
    mirror=$(sed -n 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*debian\/\{0,1\}\) .*/\2/p' /etc/apt/sources.list 2>/dev/null | head -n 1 || true)
fi
[ -n "$mirror" ] || unavailable "no nvcc $least or newer on PATH, and no Debian mirror in /etc/apt"

# Everything happens in one folder beside the prefix, which becomes the prefix at the end: nobody ever sees a half of it.
mkdir -p "$(dirname "$prefix")"
work=$(mktemp -d "$prefix.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{sources,state,lists/partial,cache/archives/partial,packages,root,toolkit}
: > "$work/status"

cat > "$work/sources/debian.sources" <<END
Types: deb
URIs: $mirror
Suites: trixie
Components: main non-free
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
# A package manager's state of its own: the system's stays as it is.
cat > "$work/apt.conf" <<END
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$work/sources";
Dir::State "$work/state";
Dir::State::Lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache "$work/cache";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
END
export APT_CONFIG=$work/apt.conf

say "unpacking CUDA 12.4 into $prefix (1 GB to download, about a minute)"
timeout 120s apt-get -qq update >&2 || unavailable "the package lists of Debian 13 could not be read"
(
    cd "$work/packages"
    timeout 600s apt-get -qq download nvidia-cuda-toolkit nvidia-cuda-dev libcudart12 libnvvm4 libnvtoolsext1 libnvrtc12 \
        libnvrtc-builtins12.4 libcu++-dev libcub-dev libthrust-dev >&2
) || unavailable "the packages of CUDA 12.4 could not be downloaded"

readonly libraries=usr/lib/x86_64-linux-gnu
for package in "$work"/packages/*.deb; do
    case $package in
        # Nearly all of its 900 MB are libraries that nothing here links.
        */nvidia-cuda-dev_*)
            dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work/root" --wildcards './usr/include/*' \
                "./$libraries/libcudadevrt.a" "./$libraries/libcudart_static.a" "./$libraries/stubs/libcuda.so" ;;
        *) dpkg-deb --extract "$package" "$work/root" ;;
    esac
done
rm -rf "$work/packages"

# NVIDIA's own arrangement of the folders, which nvcc and CMake expect. Debian's nvcc is a wrapper; this is the real one.
toolkit=$work/toolkit
mkdir -p "$toolkit"/{bin,lib64/stubs,nvvm/bin}
cd "$work/root/usr"
cp -r bin/{bin2c,cu++filt,cudafe++,cuobjdump,fatbinary,nvdisasm,nvlink,nvprune,ptxas} lib/nvidia-cuda-toolkit/bin/{nvcc,crt} \
    "$toolkit/bin/"
cp lib/nvidia-cuda-toolkit/bin/cicc "$toolkit/nvvm/bin/"
cp -r lib/nvidia-cuda-toolkit/libdevice "$toolkit/nvvm/"
cp -r include "$toolkit/"
cd "$work/root/$libraries"
cp -a libcudart.so.* libcudart_static.a libcudadevrt.a libnvrtc.so.* libnvrtc-builtins.so.* libnvToolsExt.so.* "$toolkit/lib64/"
cp -a stubs/libcuda.so "$toolkit/lib64/stubs/"
# CMake looks for the names without a version.
ln -s libcudart.so.12 "$toolkit/lib64/libcudart.so"
ln -s libnvrtc.so.12 "$toolkit/lib64/libnvrtc.so"
ln -s libnvToolsExt.so.1 "$toolkit/lib64/libnvToolsExt.so"
cat > "$toolkit/bin/nvcc.profile" <<'END'
TOP = $(_HERE_)/..
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH += $(TOP)/nvvm/bin:$(_HERE_):
INCLUDES += "-I$(TOP)/include" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) "-L$(TOP)/lib64/stubs" "-L$(TOP)/lib64"
END
version=$(version_of "$toolkit/bin/nvcc")
at_least "$version" "$least" || unavailable "the unpacked nvcc says it is version '${version}', expected $least or newer"
touch "$toolkit/.ok"

# Another run may have been faster; its toolkit is as good as this one. What lies there without a stamp is no toolkit.
if [ ! -f "$stamp" ]; then
    rm -rf "$prefix"
    mv "$toolkit" "$prefix"
fi
say "nvcc $version, unpacked into $prefix ($(du -sm "$prefix" | cut -f 1) MB, $SECONDS s)"
echo "$prefix/bin/nvcc"
