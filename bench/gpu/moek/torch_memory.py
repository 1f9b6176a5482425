"""Tensors and their maths through PyTorch, on the CPU or on a GPU. The methods are those of HostMemory."""

import math

import torch

from .deviation import ELEMENT_FACTOR, Deviation

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "f64": torch.float64, "i32": torch.int32}

_GAP = 77.0


class TorchMemory:
    """Makes, reads and compares tensors. A tensor is a view of `tensor.whole`, which has the gaps between rows as well."""

    share = 0.0

    def __init__(self, seed, device):
        self.device = device
        self._generator = torch.Generator(device=device).manual_seed(seed)

    @property
    def stream(self):
        """PyTorch's current stream, as the ABI takes it."""
        return torch.cuda.current_stream().cuda_stream if self._on_gpu else None

    def new(self, slot, padding):
        stride = slot.columns + (padding if slot.strided else 0)
        whole = torch.full((slot.rows, stride), _GAP, dtype=DTYPES[slot.dtype], device=self.device)
        tensor = self._view(whole, slot.columns)
        tensor.copy_(self._contents(slot))
        return tensor

    def address(self, tensor):
        return tensor.data_ptr()

    def stride(self, tensor):
        return tensor.stride(0)

    def workspace(self, size):
        buffer = torch.empty(max(size, 1), dtype=torch.uint8, device=self.device)
        return buffer, buffer.data_ptr()

    def copy(self, tensor):
        return self._view(tensor.whole.clone(), tensor.shape[1])

    def restore(self, tensor, twin):
        tensor.whole.copy_(twin.whole)

    def same_bits(self, a, b):
        return torch.equal(a.whole.view(torch.uint8), b.whole.view(torch.uint8))

    def gaps_intact(self, tensor):
        return bool((tensor.whole[:-1, tensor.shape[1]:] == _GAP).all())

    def matrix(self, tensor, rounded=None):
        """The values in f64, as a leaf of the formula; rounded to a type first where one is given."""
        if rounded is not None:
            tensor = tensor.to(DTYPES[rounded])
        return tensor.detach().to(torch.float64, copy=True).requires_grad_(True)

    def index(self, tensor):
        """Ids, as gather and scatter take them."""
        return tensor.to(torch.int64)

    def synchronize(self):
        if self._on_gpu:
            torch.cuda.synchronize()

    # --- maths of the formulas -----------------------------------------------------------------------------------------

    def gradient(self, outputs, seeds, inputs):
        return torch.autograd.grad(outputs, inputs, grad_outputs=seeds, allow_unused=True)

    def filled(self, rows, columns, value):
        return torch.full((rows, columns), value, dtype=torch.float64, device=self.device)

    def leaf(self, matrix):
        return matrix.requires_grad_(True)

    def at_least(self, matrix, limit):
        return (matrix >= limit).to(matrix.dtype)

    def histogram(self, index, bins):
        return torch.bincount(index.flatten(), minlength=bins).to(torch.float64).reshape(1, bins)

    def least(self, matrix):
        return matrix.min().item()

    def largest(self, matrix):
        return matrix.max().item()

    def bounds(self, index):
        return index.min().item(), index.max().item()

    def norm(self, matrix):
        return torch.linalg.vector_norm(matrix.detach()).item()

    def moved(self, matrix):
        """An input with every element moved by `share` of itself, up or down."""
        return (matrix.detach() * self._factors(matrix)).requires_grad_(True)

    def passed(self, matrix):
        """What a formula makes on its way: as it is, or moved like an input, and its gradient with it."""
        return matrix * self._factors(matrix) if self.share else matrix

    def deviation(self, name, limit, got, want):
        got, want = got.detach(), want.detach()
        norm, error = self.norm(want), self.norm(got - want)
        allowed = limit * ELEMENT_FACTOR * (want.abs() + norm / math.sqrt(want.numel()))
        shares = torch.where(got == want, 0.0, (got - want).abs() / allowed).nan_to_num(nan=math.inf)
        worst = int(shares.argmax())
        row, column = divmod(worst, want.shape[1])
        place = f"[{row}, {column}]: got {got[row, column].item()!r}, expected {want[row, column].item()!r}"
        return Deviation(name, limit, error / norm if norm > 0 else error, shares.flatten()[worst].item(), place)

    # --------------------------------------------------------------------------------------------------------------------

    def _factors(self, matrix):
        ups = torch.randint(2, matrix.shape, generator=self._generator, device=self.device)
        return 1 + self.share * (2 * ups - 1).to(matrix.dtype)

    @property
    def _on_gpu(self):
        return torch.device(self.device).type == "cuda"

    def _view(self, whole, columns):
        tensor = whole[:, :columns]
        tensor.whole = whole
        return tensor

    def _contents(self, slot):
        shape = (slot.rows, slot.columns)
        reads = "in" in (slot.forward, slot.backward) and not slot.written or slot.accumulated
        if not reads:
            return torch.full(shape, -123456789 if slot.dtype == "i32" else math.nan, device=self.device)
        if slot.fill == "ids":
            order = torch.rand((slot.rows, slot.of), generator=self._generator, device=self.device)
            return order.argsort(-1)[:, :slot.columns]
        if slot.fill == "counts":
            return torch.randint(10, shape, generator=self._generator, device=self.device)
        return torch.randn(shape, generator=self._generator, device=self.device) * slot.scale
