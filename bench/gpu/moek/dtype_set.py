"""The legal combinations of dtypes, one per role, under a name each."""

import dataclasses

from . import dtypes


@dataclasses.dataclass(frozen=True)
class DtypeSet:
    x: str
    weight: str
    grad: str
    tf32: bool = False

    @property
    def accumulator(self):
        return dtypes.accumulator(self.x)

    @property
    def product(self):
        """The precision of a product of two operands."""
        return "tf32" if self.tf32 else self.x

    @property
    def mixed(self):
        return self.weight != self.x

    def sum(self, rounds_weights):
        """The precision of a product of tensors as they are given, and of everything made from it."""
        if self.tf32:
            return "tf32"
        return self.x if self.mixed and rounds_weights else self.accumulator


DTYPE_SETS = {
    "f32": DtypeSet("f32", "f32", "f32"),
    "tf32": DtypeSet("f32", "f32", "f32", tf32=True),
    "bf16": DtypeSet("bf16", "bf16", "bf16"),
    "f16": DtypeSet("f16", "f16", "f16"),
    "bf16 over f32": DtypeSet("bf16", "f32", "f32"),
    "f16 over f32": DtypeSet("f16", "f32", "f32"),
    "f64": DtypeSet("f64", "f64", "f64"),
}
