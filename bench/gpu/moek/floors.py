"""What a call cannot do without: the bytes it must move, the operations it must do, and the time that these take at least.

`minimal_bytes` counts every tensor of a call once (an output that is added to twice). `floor` is that of a good implementation on
the measured copy bandwidth and matrix rate: all ranks on tensor cores; forward reads x once and writes y; backward reads dy
twice, for B^T dy and for dB, which are reductions in different directions.
"""

import dataclasses

from . import dtypes


@dataclasses.dataclass(frozen=True)
class Ceilings:
    """Measured on the machine: bytes per second of a large copy (read and written), operations per second by precision."""

    copy: float
    matrix: dict


def minimal_bytes(case, direction):
    total = 0
    for slot in case.slots():
        size = slot.rows * slot.columns * dtypes.SIZES[slot.dtype]
        part = getattr(slot, direction)
        total += {"in": size, "out": size * (2 if slot.accumulated else 1), "": 0}[part]
    return total


def floor_bytes(case, direction):
    sizes = {slot.name: slot.rows * slot.columns * dtypes.SIZES[slot.dtype] for slot in case.slots()}
    if case.op == "gate":
        return minimal_bytes(case, direction)
    weights = sum(sizes.get(name, 0) for name in ("A", "B", "C", "W_r", "W_g"))
    written = 2 if case.accumulate else 1
    if direction == "forward":
        return sizes["x"] + weights + written * sizes["y"]
    return 2 * sizes["dy"] + sizes["x"] + written * sizes["dx"]


def operations(case, direction):
    """A multiply-add is two."""
    if case.op == "gate":
        return 0
    router_on_x = {"rank_lora": lambda: case.r // case.rank_partition if case.routed else 0,
                   "core_merge": lambda: case.E if case.router == "INPUT" else 0}[case.op]()
    forward = case.d_in * (case.r + router_on_x) + case.d_out * case.r
    if case.op == "core_merge":
        forward += case.E * case.r * case.r + (case.E * case.r if case.router == "CORE" else 0)
    return 2 * case.T * forward * (1 if direction == "forward" else 2)


def floor_seconds(case, direction, ceilings):
    return max(floor_bytes(case, direction) / ceilings.copy,
               operations(case, direction) / ceilings.matrix[case.dtypes.product])
