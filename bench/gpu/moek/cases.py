"""The cases of the check: every kind of router and gate, every combination of dtypes, each option at least once."""

import dataclasses

from .core_merge import CoreMerge
from .gate import Gate
from .rank_lora import RankLora


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A shape to run the options at."""

    T: int
    d_in: int
    d_out: int
    r: int
    k: int
    E: int


TINY = Sizes(T=5, d_in=7, d_out=6, r=6, k=2, E=5)
SMALL = Sizes(T=333, d_in=1000, d_out=776, r=64, k=8, E=8)
ODD = Sizes(T=70, d_in=259, d_out=131, r=12, k=3, E=5)


def gate_cases(s, dtype):
    for k, score, bias, normalize in [
        (s.k, "SOFTMAX", "NONE", "SUM_TO_ONE"),
        (s.k, "SOFTMAX", "NONE", "NONE"),
        (s.k, "SIGMOID", "SELECTION", "SUM_TO_ONE"),
        (s.k, "SIGMOID", "WEIGHT", "SUM_TO_K"),
        (1, "IDENTITY", "NONE", "NONE"),
        (s.r, "SOFTMAX", "NONE", "NONE"),
    ]:
        yield Gate(s.T, s.r, k, dtype, score, bias_mode=bias, normalize=normalize)
    yield Gate(s.T, s.r, s.r, dtype, select="ALL", normalize="NONE", temperature=0.7)
    yield Gate(s.T, s.r, s.k, dtype, normalize="SUM_TO_ONE", eps=0.1, temperature=1.5, weight_scale=2.5, accumulate=True,
               padding=3)


def rank_lora_cases(s, dtype):
    shape = (s.T, s.d_in, s.d_out, s.r, s.k, dtype)
    yield RankLora(*shape)  # SMoRA
    yield RankLora(*shape, score="SOFTMAX", bias_mode="NONE", normalize="SUM_TO_ONE", eps=0.01, temperature=0.8,
                   b_layout="RANK_BY_OUT")
    yield RankLora(*shape, rank_partition=2, separate_router_input=True, accumulate=True, padding=5)
    for gate in ("ACTIVATION_SIGNED", "ACTIVATION_ABSOLUTE"):
        yield RankLora(*shape, gate=gate, bias_mode="SELECTION")  # FlyLoRA
    yield RankLora(*shape, gate="ACTIVATION_SOFTMAX", bias_mode="NONE", normalize="NONE", eps=1e-3, temperature=0.5,
                   threshold=0.5 / s.r)  # MoRA
    yield RankLora(*shape, gate="ACTIVATION_SOFTMAX", bias_mode="NONE", normalize="SUM_TO_ONE", b_layout="RANK_BY_OUT",
                   accumulate=True)
    yield RankLora(*shape, gate="CALLER", bias_mode="NONE")
    yield dataclasses.replace(RankLora(*shape, gate="CALLER", bias_mode="NONE"), k=s.r)  # plain LoRA
    yield RankLora(*shape, dropout_p=0.5)


def core_merge_cases(s, dtype):
    shape = (s.T, s.d_in, s.d_out, s.r, s.E, dtype)
    yield CoreMerge(*shape)  # CoMoL
    yield CoreMerge(*shape, router="INPUT", temperature=0.7, b_layout="RANK_BY_OUT")
    yield CoreMerge(*shape, router="INPUT", separate_router_input=True, accumulate=True, padding=5)
    yield CoreMerge(*shape, router="CALLER", padding=1)
    yield CoreMerge(*shape, dropout_p=0.5, dropout_core_p=0.5)
    yield dataclasses.replace(CoreMerge(*shape), E=1)


def large_cases():
    """Shapes of real layers, where offsets and sums are large."""
    yield Gate(8192, 256, 8, "f32")
    yield RankLora(8192, 4096, 4096, 64, 8, "bf16")
    yield RankLora(4096, 4096, 14336, 16, 16, "bf16", gate="CALLER", bias_mode="NONE")
    yield CoreMerge(8192, 4096, 4096, 64, 8, "bf16")


def check_cases(sizes, dtype_names):
    """Every case at every size and combination of dtypes. `gate` knows only those that are uniform."""
    for s in sizes:
        for dtype in dtype_names:
            if dtype in ("f32", "bf16", "f16", "f64"):
                yield from gate_cases(s, dtype)
            yield from rank_lora_cases(s, dtype)
            yield from core_merge_cases(s, dtype)
