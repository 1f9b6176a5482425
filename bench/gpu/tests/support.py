"""What the tests of the harness share."""

import pathlib
import sys

GPU = pathlib.Path(__file__).resolve().parents[1]
ROOT = GPU.parents[1]
HEADER = ROOT / "native/include/moekernels.h"
sys.path.insert(0, str(GPU))


def cpu_library():
    """The library of the managed build or of run.sh, or None."""
    import compare
    try:
        return compare.find_library()
    except ValueError:
        return None
