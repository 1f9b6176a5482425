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
    def sum(self):
        """The precision of a product whose operands are not rounded, and of everything made from it."""
        return "tf32" if self.tf32 else self.accumulator


DTYPE_SETS = {
    "f32": DtypeSet("f32", "f32", "f32"),
    "tf32": DtypeSet("f32", "f32", "f32", tf32=True),
    "bf16": DtypeSet("bf16", "bf16", "bf16"),
    "f16": DtypeSet("f16", "f16", "f16"),
    "bf16 over f32": DtypeSet("bf16", "f32", "f32"),
    "f16 over f32": DtypeSet("f16", "f32", "f32"),
    "f64": DtypeSet("f64", "f64", "f64"),
}
