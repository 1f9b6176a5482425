"""Runs a case forward and backward, twice, and compares everything it writes with the formula in f64."""

import dataclasses
import math

from .call import Call, dropout_mask
from .deviation import LIMITS, ROUNDING_FACTOR, ROUNDING_TRIES, limit_of, precision_of, rounding_of
from .rank_lora import OFFSET, SEED
from .slots import Slot

WEIGHTS = ("A", "B", "C", "W_r", "W_g")


@dataclasses.dataclass
class Result:
    """Of one case: the deviation of every tensor, and what else is wrong."""

    case: object
    deviations: list
    problems: list

    @property
    def fine(self):
        return not self.problems and all(deviation.fine for deviation in self.deviations)


def check(context, case, memory):
    call = Call(context, case, memory)
    written = [slot for slot in call.slots if slot.written]
    before = {slot.name: memory.copy(call.tensors[slot.name]) for slot in written}
    call.forward()
    call.backward()
    memory.synchronize()
    first = {slot.name: memory.copy(call.tensors[slot.name]) for slot in written}

    problems = []
    # The same inputs give the same bits, also over a workspace with other contents.
    for slot in written:
        memory.restore(call.tensors[slot.name], before[slot.name])
    call.forward()
    call.backward()
    memory.synchronize()
    for slot in written:
        if not memory.same_bits(first[slot.name], call.tensors[slot.name]):
            problems.append(f"{slot.name}: two runs differ")
        if not memory.gaps_intact(call.tensors[slot.name]):
            problems.append(f"{slot.name}: memory between its rows was written")

    # Under 16-bit activations tensor cores read f32 weights rounded to the activations' type: so does the formula.
    rounds_weights = context.device_type == "CUDA"
    values = {}
    for slot in call.slots:
        if not slot.written and slot.dtype != "i32":
            rounded = case.dtypes.x if rounds_weights and slot.name in WEIGHTS else slot.dtype
            values[slot.name] = memory.matrix(call.tensors[slot.name], rounded)
    for name, rows, columns, p, stream in case.masks():
        slot = Slot(name, rows, columns, "f32", "out")
        values[name] = memory.matrix(dropout_mask(context, memory, slot, p, stream, SEED, OFFSET))

    ids = None
    if "ids" in call.tensors:
        ids = memory.index(call.tensors["ids"])
        wrong = check_ids(case, memory, values, ids, rounds_weights)
        if wrong:
            # Nothing can be said about the rest.
            return Result(case, [], problems + wrong)

    expected = case.expected(memory, values, ids)
    if "counts" in call.tensors:
        expected["counts"] = memory.histogram(ids, columns_of(call, "counts"))
    deviations = []
    rounded = {}  # what the formula makes of rounded values, by their precision
    for slot in written:
        if slot.name == "ids":
            continue
        want = expected[slot.name]
        if slot.accumulated:
            want = want + memory.matrix(before[slot.name])
        limit = 0.0
        if slot.dtype != "i32":
            precision = precision_of(slot, case.dtypes, rounds_weights)
            limit = limit_of(slot, precision)
            if rounding_of(precision) > 0:
                if precision not in rounded:
                    rounded[precision] = [rounded_formula(case, memory, values, ids, precision) for _ in range(ROUNDING_TRIES)]
                moves = [memory.norm(result[slot.name] - expected[slot.name]) for result in rounded[precision]]
                move = math.hypot(*moves) / math.sqrt(ROUNDING_TRIES)
                limit = max(limit, ROUNDING_FACTOR * move / (memory.norm(want) or 1))
        deviations.append(memory.deviation(slot.name, limit, memory.matrix(first[slot.name]), want))
    return Result(case, deviations, problems)


def rounded_formula(case, memory, values, ids, precision):
    """The formula with what it makes on its way moved as far as rounding may; its inputs too, where they are not rounded yet."""
    memory.share = rounding_of(precision)
    try:
        if precision == "tf32":
            values = {name: memory.moved(value) for name, value in values.items()}
        return case.expected(memory, values, ids)
    finally:
        memory.share = 0.0


def columns_of(call, name):
    return next(slot.columns for slot in call.slots if slot.name == name)


def check_ids(case, memory, values, ids, rounds_weights):
    """Whether ids are distinct, in range, best first and the best: up to what rounding does to the scores they go by."""
    n = case.E if case.op == "gate" else case.r
    least, largest = memory.bounds(ids)
    if least < 0 or largest >= n:
        return [f"ids: from {least} to {largest}, expected 0 .. {n - 1}"]
    chosen = memory.filled(case.T, n, 0.0).scatter(-1, ids, memory.filled(case.T, case.k, 1.0))
    if memory.least(chosen.sum(-1, keepdim=True)) != case.k:
        return ["ids: a row names an expert twice"]
    ranking = case.ranking(memory, values)
    if ranking is None:
        return []
    largest_score = max(abs(memory.least(ranking)), abs(memory.largest(ranking)))
    slack = LIMITS[case.dtypes.sum(rounds_weights)] * largest_score
    problems = []
    mine = ranking.gather(-1, ids)
    if case.k > 1:
        steps = mine.narrow(-1, 0, case.k - 1) - mine.narrow(-1, 1, case.k - 1)
        if memory.least(steps) < -slack:
            problems.append("ids: not best first")
    if case.k < n:
        # What was chosen is put far below, so that the largest that is left was not chosen.
        left = ranking - chosen * (4 * largest_score + 1)
        if memory.least(mine.amin(-1, keepdim=True) - left.amax(-1, keepdim=True)) < -slack:
            problems.append("ids: a better one was left out")
    return problems
