"""The points that are timed, in grids, the most telling points of a grid first: a run that is out of time has measured those.

The axes are those that others publish (the comment beside a point names them), so that numbers line up.
"""

import dataclasses

from .core_merge import CoreMerge
from .gate import Gate
from .rank_lora import RankLora

TOKENS = (1, 4, 16, 64, 128, 512, 1024, 2048, 4096, 8192)


@dataclasses.dataclass(frozen=True)
class Point:
    section: str
    case: object
    headline: bool = False  # compared with everything there is; others with PyTorch's eager mode and cuBLAS only
    backward: bool = True


def smora(T, d_in=4096, d_out=None, r=64, k=8, dtype="bf16", **options):
    return RankLora(T, d_in, d_out or d_in, r, min(k, r), dtype, scale=1 / k, **options)


def plain_lora(T, d_in=4096, d_out=None, r=16, dtype="bf16"):
    return RankLora(T, d_in, d_out or d_in, r, r, dtype, gate="CALLER", bias_mode="NONE", counts=False)


def decoding(T, **options):
    """Inference: nothing is kept for backward."""
    return smora(T, saves=False, counts=False, accumulate=True, **options)


def gate(T, E, k, dtype="f32", normalize="SUM_TO_ONE", **options):
    """Ids and weights alone, which is what others compute."""
    return Gate(T, E, k, dtype, normalize=normalize, saves=False, **options)


def headline_points():
    for accumulate in (False, True):
        yield Point("rank_lora", smora(8192, accumulate=accumulate), headline=True)
    for r in (16, 64, 128):
        yield Point("core_merge", CoreMerge(8192, 4096, 4096, r, 8, "bf16"), headline=True)
    for T in (1, 16, 64):
        yield Point("adapter, T <= 64", decoding(T), headline=True, backward=False)
    for T, E, k in ((1024, 64, 8), (1024, 256, 8), (1024, 512, 8), (256, 128, 8)):  # the last: Megatron
        yield Point("gate", gate(T, E, k), headline=True)
    yield Point("rank_lora", smora(2048), headline=True)


def sweep_points():
    # L1: T, rank, width, active ranks, dtypes
    for T in TOKENS:
        yield Point("rank_lora", smora(T))
    yield Point("rank_lora", smora(16384))  # the gate in the product's epilogue
    for r in (8, 16, 32, 128):
        yield Point("rank_lora", smora(8192, r=r))
    for d in (2048, 8192):
        yield Point("rank_lora", smora(8192, d))
    for k in (1, 2, 4, 64):
        yield Point("rank_lora", smora(8192, k=k))
    for dtype in ("f16", "f32", "tf32", "bf16 over f32"):
        yield Point("rank_lora", smora(8192, dtype=dtype))
    yield Point("rank_lora", plain_lora(8192))  # LoRAFusion
    yield Point("rank_lora", plain_lora(1024, d_in=3072, r=32))  # FlashInfer
    for kind in ("ACTIVATION_SIGNED", "ACTIVATION_ABSOLUTE"):
        yield Point("rank_lora", smora(8192, gate=kind, bias_mode="SELECTION"))
    yield Point("rank_lora", smora(8192, gate="ACTIVATION_SOFTMAX", bias_mode="NONE", normalize="NONE"))
    # L2: not square
    for d_in, d_out in ((4096, 14336), (14336, 4096), (4096, 1024)):
        yield Point("rank_lora, not square", smora(8192, d_in, d_out))
    # L3: ragged
    for d in (2049, 2880):
        yield Point("rank_lora, ragged", smora(8192, d))
    for r in (1, 3, 12, 24, 96):
        yield Point("rank_lora, ragged", smora(8192, r=r))
    # G
    for T, E, k in ((8192, 8, 2), (8192, 64, 8), (8192, 128, 8), (8192, 192, 8), (8192, 256, 8), (8192, 512, 8), (8192, 896, 16),
                    (8192, 2304, 36), (1, 256, 8), (16, 256, 8), (64, 256, 8)):  # TensorRT-LLM: 256; TransformerEngine: 2304
        yield Point("gate", gate(T, E, k))
    yield Point("gate", gate(8192, 256, 8, score="SIGMOID", bias_mode="SELECTION"))
    yield Point("gate", gate(8192, 256, 8, normalize="NONE"))
    yield Point("gate", gate(8192, 256, 8, "bf16"))
    # C
    for r in (16, 32, 64, 128):
        for cores in (4, 12, 16):
            yield Point("core_merge", CoreMerge(8192, 4096, 4096, r, cores, "bf16"))
    for T in (16, 128, 2048):
        yield Point("core_merge", CoreMerge(T, 4096, 4096, 64, 8, "bf16"))
    yield Point("core_merge", CoreMerge(8192, 4096, 4096, 64, 8, "bf16", router="INPUT"))


def full_points():
    yield from headline_points()
    yield from sweep_points()
    for d in (2048, 4096, 8192):
        for r in (8, 16, 32, 64, 128):
            for k in sorted({1, 2, 4, 8, r}):
                for T in TOKENS:
                    yield Point("rank_lora", smora(T, d, r=r, k=k))
    for T in TOKENS:
        yield Point("rank_lora", plain_lora(T))  # vLLM
    for E in (8, 64, 128, 192, 256, 512, 896):
        for k in (1, 2, 4, 8, 16):
            for T in TOKENS:
                if k <= E:
                    yield Point("gate", gate(T, E, k))
                    yield Point("gate", gate(T, E, k, normalize="NONE"))
                    yield Point("gate", gate(T, E, k, score="SIGMOID", bias_mode="SELECTION"))
    for r in (16, 32, 64, 128):
        for cores in (4, 8, 12, 16):
            for T in TOKENS:
                yield Point("core_merge", CoreMerge(T, 4096, 4096, r, cores, "bf16"))


def tiny_points():
    """Every kind of point in a few kilobytes: tries the harness, says nothing about speed."""
    yield Point("rank_lora", smora(6, 32, 24, r=8, k=2, dtype="f32"), headline=True)
    yield Point("rank_lora", smora(6, 32, 24, r=8, k=2, dtype="bf16", accumulate=True), headline=True)
    yield Point("rank_lora", plain_lora(6, 32, r=4))
    for kind in ("ACTIVATION_SIGNED", "ACTIVATION_ABSOLUTE"):
        yield Point("rank_lora", smora(6, 32, 24, r=8, k=2, gate=kind, bias_mode="SELECTION"))
    yield Point("rank_lora", smora(6, 32, 24, r=8, k=2, gate="ACTIVATION_SOFTMAX", bias_mode="NONE", normalize="NONE"))
    yield Point("rank_lora", smora(6, 32, 24, r=8, k=2, dtype="bf16 over f32"))
    yield Point("adapter, T <= 64", decoding(4, d_in=32, r=8, k=2, dtype="f32"), headline=True, backward=False)
    for options in ({}, {"normalize": "NONE"}, {"score": "SIGMOID", "bias_mode": "SELECTION"}, {"dtype": "bf16"}):
        yield Point("gate", gate(6, 8, 2, **options), headline=True)
    yield Point("core_merge", CoreMerge(6, 32, 24, 8, 4, "f32"), headline=True)
    yield Point("core_merge", CoreMerge(6, 32, 24, 8, 4, "bf16", router="INPUT"))


GRIDS = {"headline": headline_points, "sweep": sweep_points, "full": full_points, "tiny": tiny_points}


def points(grid):
    """The points of a grid, each once."""
    seen = set()
    for point in GRIDS[grid]():
        if point.case not in seen:
            seen.add(point.case)
            yield point
