"""Times one point: the op in every direction, then what it is compared with, on the same tensors."""

import dataclasses
import time

import torch

from . import baselines as base
from .call import Call
from .floors import floor_bytes, floor_seconds, minimal_bytes, operations
from .machine import tf32
from .peers import PEERS
from .timing import rotation
from .torch_memory import TorchMemory
from .variants import compare_bits

# Half of the rows of a baseline's result must be this close to the op's: most rows choose the same experts, but where logits are
# rounded to the storage dtype, as PyTorch does, others choose differently.
ROW_LIMITS = {"f32": 1e-3, "tf32": 2e-2, "f16": 2e-2, "bf16": 5e-2}


@dataclasses.dataclass
class Bench:
    """What measuring needs besides the point."""

    context: object
    device: str
    timer: object
    ceilings: object
    cache_bytes: int
    memory_bytes: int
    seed: int
    variants: list = dataclasses.field(default_factory=list)


def measure(bench, point):
    """The record of a point, as it goes into the results' file."""
    began = time.perf_counter()
    case = point.case
    directions = ["forward"] + (["backward"] if point.backward else [])
    sets = _sets(bench, case, directions)
    record = {
        "section": point.section, "op": case.op, "headline": point.headline, "case": _describe(case),
        "sets": len(sets), "bytes": {d: minimal_bytes(case, d) for d in directions},
        "floor_bytes": {d: floor_bytes(case, d) for d in directions},
        "operations": {d: operations(case, d) for d in directions},
        "floor_us": {d: floor_seconds(case, d, bench.ceilings) * 1e6 for d in directions},
        "times": {},
    }
    times = record["times"]
    with tf32(case.dtypes.tf32):
        ways = bench.timer.ways
        times["moekernels"] = _times(bench, _ours(sets, point), ways)
        for variant in bench.variants:
            if variant.applies(case):
                times[variant.name] = _attempt(lambda: _times(bench, _variant(sets, point, variant), ways))
        for baseline in base.baselines(case, point.headline):
            times[baseline.name] = _attempt(
                lambda: _times(bench, _torch(sets, point, _prepared(baseline), True), ways if point.headline else ways[:1]))
        for peer in PEERS:
            if peer.applies(case):
                times[peer.name] = _attempt(lambda: _times(bench, _peer(sets, point, peer), ways))
        times["cuBLAS"] = _attempt(lambda: _times(bench, _products(sets, point), ways[:1]))
    record["times"] = {name: value for name, value in times.items() if value}
    record["seconds"] = time.perf_counter() - began
    return record


def shape_text(case):
    """A case in a few words."""
    parts = [f"T={case.T}"]
    if case.op != "gate":
        parts.append(f"d={case.d_in}" if case.d_in == case.d_out else f"d={case.d_in}->{case.d_out}")
        parts.append(f"r={case.r}")
    if case.op != "rank_lora":
        parts.append(f"E={case.E}")
    if case.op != "core_merge":
        parts.append(f"k={case.k}")
    words = {
        "gate": lambda: [f"{case.score} {case.bias_mode} {case.normalize}".replace("NONE", "-")],
        "rank_lora": lambda: [case.gate if not case.routed else ""],
        "core_merge": lambda: [f"router {case.router}"],
    }[case.op]()
    if case.accumulate:
        words.append("add")
    return " ".join(parts + [word for word in words if word])


def _describe(case):
    described = {field.name: getattr(case, field.name) for field in dataclasses.fields(case)}
    return {**described, "text": shape_text(case)}


def _sets(bench, case, directions):
    """Calls on tensors of their own, more of them than the cache holds; each has run once, so that results are there."""
    # Each direction by itself has to exceed it.
    size = max(1, min(minimal_bytes(case, direction) for direction in directions))
    count = rotation(size, bench.cache_bytes, bench.memory_bytes // 8)
    sets, workspace = [], None
    for i in range(count):
        call = Call(bench.context, case, TorchMemory(bench.seed + i, bench.device), workspace)
        workspace = call.workspace
        sets.append(call)
    for call in sets:
        call.workspace = workspace  # the largest that any of them asked for
        call.forward()
        if "backward" in directions:
            call.backward()
    sets[0].memory.synchronize()
    return sets


def _ours(sets, point):
    works = {"forward": [call.forward for call in sets]}
    if point.backward:
        works["backward"] = [call.backward for call in sets]
        works["forward+backward"] = [_both(call) for call in sets]
    return works


def _variant(sets, point, variant):
    twins = [call.on(variant.context) for call in sets]
    compare_bits(sets[0], twins[0], point.backward)
    return _ours(twins, point)


def _both(call):
    def run():
        call.forward()
        call.backward()
    return run


def _prepared(baseline):
    """The function of a baseline, compiled if that is what it is about."""
    if not baseline.compiled:
        return baseline.forward
    # Compiled code is kept per function up to a small number of shapes; this one is new.
    torch._dynamo.reset()
    return torch.compile(baseline.forward, fullgraph=True, dynamic=False)


def _torch(sets, point, function, differentiable):
    """PyTorch's work: the forward pass without a graph, and a training step's share of forward and backward."""
    case = point.case
    result, upstream = base.result_name(case), base.upstream_name(case)
    works = {"forward": [], "forward+backward": []}
    for call in sets:
        works["forward"].append(_inference(function, case, call.tensors))
        if point.backward and differentiable:
            works["forward+backward"].append(_training(function, case, call.tensors, upstream))
    if not works["forward+backward"]:
        del works["forward+backward"]
    got = works["forward"][0]()
    wanted = sets[0].tensors[result]
    # What was added to y by the calls so far is not in a baseline's result, which adds to y as it is now.
    if not getattr(case, "accumulate", False):
        _compare_rows("its result", got, wanted, case)
        if "forward+backward" in works:
            first = next(iter(base.gradient_names(case).values()))
            _compare_rows("its gradient", works["forward+backward"][0]()[0], sets[0].tensors[first], case)
    return works


def _inference(function, case, tensors):
    def run():
        with torch.no_grad():
            return function(case, tensors)
    return run


def _training(function, case, tensors, upstream):
    leaves = {name: tensors[name].detach().requires_grad_(True) for name in base.gradient_names(case)}
    inputs, given = {**tensors, **leaves}, tensors[upstream]

    def run():
        return torch.autograd.grad(function(case, inputs), list(leaves.values()), given)
    return run


def _peer(sets, point, peer):
    module = peer.load()
    return _torch(sets, point, lambda case, tensors: peer.forward(module, case, tensors), peer.differentiable)


def _products(sets, point):
    each = [base.skinny_products(point.case, call.tensors) for call in sets]
    if each[0] is None:
        return {}
    directions = ["forward"] + (["backward"] if point.backward else [])
    return {direction: [works[direction] for works in each] for direction in directions}


def _compare_rows(what, got, wanted, case):
    wanted = wanted.double()
    errors = torch.linalg.vector_norm(got.double() - wanted, dim=-1) / torch.linalg.vector_norm(wanted, dim=-1).clamp_min(1e-30)
    median = errors.median().item()
    limit = ROW_LIMITS[case.dtypes.product]
    if not median <= limit:
        raise ValueError(f"{what} differs from the op's: half of its rows by more than {median:.1e}, at most {limit:.0e}")


def _times(bench, works, ways):
    """{direction: {way: sample}}."""
    return {direction: {way: dataclasses.asdict(bench.timer.measure(way, calls)) for way in ways}
            for direction, calls in works.items()}


def _attempt(function):
    """The times, or why there are none; an error that the device does not get over is not caught here."""
    try:
        return function()
    except ImportError as error:
        return {"skipped": f"not installed ({error})"}
    except Exception as error:  # a package's or the compiler's own: whatever it is, the other implementations go on
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return {"skipped": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
