"""The tensors of a call: what they are called in the op's struct, their shapes, and who reads and writes them when."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Slot:
    """One tensor. `forward` and `backward` are "in", "out" or "" (not part of that direction)."""

    name: str
    rows: int
    columns: int
    dtype: str
    forward: str = ""
    backward: str = ""
    fill: str = "normal"  # of inputs: normal, ids (distinct in a row) or counts (small integers)
    scale: float = 1.0  # standard deviation of a normal fill
    of: int = 0  # ids are below this
    strided: bool = False  # has a field <name>_stride
    accumulated: bool = False  # an output that is added to
    rounded_operands: bool = False  # an output that is a product of operands rounded to the storage dtype


    @property
    def written(self):
        return "out" in (self.forward, self.backward)
