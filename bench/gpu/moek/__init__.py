"""MoEKernels' C ABI from Python: checked against formulas, and timed on a GPU. See ../README.md."""
