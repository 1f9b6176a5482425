"""Tensors in host memory and their maths, with nothing but Python's standard library."""

import ctypes
import math
import random

from . import autodiff, dtypes
from .autodiff import Matrix
from .deviation import ELEMENT_FACTOR, Deviation


class HostTensor:
    """rows x columns elements with `stride` elements from row to row. Gaps between rows hold a pattern."""

    GAP = 0x5C

    def __init__(self, rows, columns, dtype, stride):
        self.rows, self.columns, self.dtype, self.stride = rows, columns, dtype, stride
        length = ((rows - 1) * stride + columns) * dtypes.SIZES[dtype] if rows > 0 else 0
        self.buffer = (ctypes.c_ubyte * max(length, 1)).from_buffer_copy(bytes([self.GAP]) * max(length, 1))

    def assign(self, values):
        data = dtypes.pack(self.dtype, values)
        for row, place, width in self._rows():
            self.buffer[place:place + width] = data[row * width:(row + 1) * width]

    def values(self):
        return dtypes.unpack(self.dtype, b"".join(bytes(self.buffer[place:place + width]) for _, place, width in self._rows()))

    def gaps_intact(self):
        size = dtypes.SIZES[self.dtype]
        return all(byte == self.GAP for row in range(self.rows - 1)
                   for byte in self.buffer[(row * self.stride + self.columns) * size:(row + 1) * self.stride * size])

    def _rows(self):
        size = dtypes.SIZES[self.dtype]
        return [(row, row * self.stride * size, self.columns * size) for row in range(self.rows)]


class HostMemory:
    """Makes, reads and compares host tensors. TorchMemory has the same methods."""

    stream = None
    share = 0.0

    def __init__(self, seed):
        self._random = random.Random(seed)

    def new(self, slot, padding):
        """A tensor for a slot: random values for an input, NaN or a number that no id has for an output."""
        stride = slot.columns + (padding if slot.strided else 0)
        tensor = HostTensor(slot.rows, slot.columns, slot.dtype, stride)
        tensor.assign(self._contents(slot))
        return tensor

    def address(self, tensor):
        return ctypes.addressof(tensor.buffer)

    def stride(self, tensor):
        return tensor.stride

    def workspace(self, size):
        buffer = (ctypes.c_ubyte * max(size, 1))()
        return buffer, ctypes.addressof(buffer)

    def copy(self, tensor):
        twin = HostTensor(tensor.rows, tensor.columns, tensor.dtype, tensor.stride)
        ctypes.memmove(twin.buffer, tensor.buffer, len(tensor.buffer))
        return twin

    def restore(self, tensor, twin):
        ctypes.memmove(tensor.buffer, twin.buffer, len(tensor.buffer))

    def same_bits(self, a, b):
        return bytes(a.buffer) == bytes(b.buffer)

    def gaps_intact(self, tensor):
        return tensor.gaps_intact()

    def matrix(self, tensor, rounded=None):
        """The values in f64, as a leaf of the formula; rounded to a type first where one is given."""
        values = tensor.values()
        if rounded not in (None, tensor.dtype):
            values = dtypes.unpack(rounded, dtypes.pack(rounded, values))
        return Matrix(tensor.rows, tensor.columns, [float(value) for value in values])

    def index(self, tensor):
        """Ids, as gather and scatter take them."""
        flat = tensor.values()
        return [flat[i * tensor.columns:(i + 1) * tensor.columns] for i in range(tensor.rows)]

    def synchronize(self):
        pass

    # --- maths of the formulas -----------------------------------------------------------------------------------------

    gradient = staticmethod(autodiff.gradient)

    def filled(self, rows, columns, value):
        return Matrix.filled(rows, columns, value)

    def leaf(self, matrix):
        return matrix

    def at_least(self, matrix, limit):
        return Matrix(matrix.rows, matrix.columns, [1.0 if value >= limit else 0.0 for value in matrix.data])

    def histogram(self, index, bins):
        counts = [0] * bins
        for row in index:
            for i in row:
                counts[i] += 1
        return Matrix(1, bins, [float(count) for count in counts])

    def least(self, matrix):
        return min(matrix.data)

    def largest(self, matrix):
        return max(matrix.data)

    def bounds(self, index):
        flat = [i for row in index for i in row]
        return min(flat), max(flat)

    def norm(self, matrix):
        return math.sqrt(math.fsum(value * value for value in matrix.data))

    def moved(self, matrix):
        """An input with every element moved by `share` of itself, up or down."""
        factors = self._factors(matrix)
        return Matrix(matrix.rows, matrix.columns, [value * factor for value, factor in zip(matrix.data, factors.data)])

    def passed(self, matrix):
        """What a formula makes on its way: as it is, or moved like an input, and its gradient with it."""
        return matrix * self._factors(matrix) if self.share else matrix

    def deviation(self, name, limit, got, want):
        pairs = list(zip(got.data, want.data))
        norm, error = self.norm(want), self.norm(got - want)
        mean_square = norm / math.sqrt(len(pairs))
        shares = [_share(g, w, limit * ELEMENT_FACTOR * (abs(w) + mean_square)) for g, w in pairs]
        worst = max(range(len(pairs)), key=shares.__getitem__)
        place = f"[{worst // want.columns}, {worst % want.columns}]: got {pairs[worst][0]!r}, expected {pairs[worst][1]!r}"
        return Deviation(name, limit, error / norm if norm > 0 else error, shares[worst], place)

    # --------------------------------------------------------------------------------------------------------------------

    def _factors(self, matrix):
        moves = (-self.share, self.share)
        return Matrix(matrix.rows, matrix.columns, [1 + self._random.choice(moves) for _ in matrix.data])

    def _contents(self, slot):
        count = slot.rows * slot.columns
        reads = "in" in (slot.forward, slot.backward) and not slot.written or slot.accumulated
        if not reads:
            return [-123456789] * count if slot.dtype == "i32" else [math.nan] * count
        if slot.fill == "ids":
            return [i for _ in range(slot.rows) for i in self._random.sample(range(slot.of), slot.columns)]
        if slot.fill == "counts":
            return [self._random.randrange(10) for _ in range(count)]
        return [self._random.gauss(0, slot.scale) for _ in range(count)]


def _share(got, want, allowed):
    if math.isnan(got):
        return math.inf
    if got == want:
        return 0.0
    return abs(got - want) / allowed if allowed > 0 else math.inf
