"""Settings that are being tried: contexts made under them are checked and timed beside the one that users get.

So far there is one, MOEKERNELS_CUDA_CLUSTERS (docs/kernels.md). It changes no bit of a result.
"""

import contextlib
import dataclasses
import os

CLUSTERS = "MOEKERNELS_CUDA_CLUSTERS"
CAPABILITY = (9, 0)


@dataclasses.dataclass(frozen=True)
class Variant:
    name: str
    context: object

    def applies(self, case):
        """Whether the setting may concern the case: products of 16-bit operands."""
        return case.op != "gate" and case.dtypes.x in ("bf16", "f16") and case.dtypes.weight == case.dtypes.x


@contextlib.contextmanager
def clusters(blocks):
    """The library reads the variable when a context is made."""
    former = os.environ.get(CLUSTERS)
    os.environ[CLUSTERS] = str(blocks)
    try:
        yield
    finally:
        if former is None:
            del os.environ[CLUSTERS]
        else:
            os.environ[CLUSTERS] = former


def open_variants(make_context, settings):
    """A variant for each setting; make_context() returns a new context of the device."""
    variants = []
    for blocks in settings:
        with clusters(blocks):
            variants.append(Variant(f"clusters of {blocks}", make_context()))
    return variants


def compare_bits(call, twin, backward):
    """Raises unless `twin`, the call under a variant, writes what the call wrote, which has run."""
    written = [slot for slot in call.slots if slot.written and (slot.forward == "out" or backward)]
    before = {slot.name: call.memory.copy(call.tensors[slot.name]) for slot in written}
    twin.forward()
    if backward:
        twin.backward()
    call.memory.synchronize()
    for slot in written:
        if not slot.accumulated and not call.memory.same_bits(before[slot.name], call.tensors[slot.name]):
            raise ValueError(f"{slot.name} differs from what the op writes without the setting")
