"""How far a result may be from the formula's value, and how far it is."""

import dataclasses

# Of |got - want| / |want| over a whole tensor, by the coarsest rounding on the way: far below any wrong element, well above
# what sums of thousands of terms in f32, or operands rounded to the type, come to.
LIMITS = {"f64": 1e-12, "f32": 1e-5, "f16": 1.5e-3, "tf32": 2e-3, "bf16": 1e-2}

# Largest relative error of rounding to a type, of those that operands are rounded to.
_ROUNDINGS = {"f16": 2.0**-11, "tf32": 2.0**-11, "bf16": 2.0**-9}

# Where terms cancel, a result may be off by this many times what such errors move the formula's value, by the root mean square
# of some tries. They move it by the largest error everywhere, which is 1.7 times as far as rounding does on average.
ROUNDING_FACTOR = 2
ROUNDING_TRIES = 8

# One element may be off by this many times the limit, relative to itself plus the tensor's root mean square.
ELEMENT_FACTOR = 4


@dataclasses.dataclass(frozen=True)
class Deviation:
    """`norm` is |got - want| / |want|; `element` is the worst element's, as a share of what one element may be off."""

    name: str
    limit: float
    norm: float
    element: float
    place: str  # of the worst element, with both values

    @property
    def fine(self):
        # A NaN compares false, and is not fine.
        return self.norm <= self.limit and self.element <= 1

    def __str__(self):
        text = f"{self.name}: |got - want| / |want| = {self.norm:.2e}, at most {self.limit:.0e}"
        return text if self.fine else f"{text}; worst {self.place}"


def precision_of(slot, dtype_set, rounds_weights):
    """The coarsest precision of the products that a tensor comes from."""
    return dtype_set.product if slot.rounded_operands else dtype_set.sum(rounds_weights)


def rounding_of(precision):
    """The largest relative error of an operand's rounding; 0 where none is rounded, or none so far that it matters."""
    return _ROUNDINGS.get(precision, 0.0)


def limit_of(slot, precision):
    """The limit of a tensor whose terms do not cancel: of its own type and of the products that it comes from."""
    return max(LIMITS[precision], LIMITS[slot.dtype])
