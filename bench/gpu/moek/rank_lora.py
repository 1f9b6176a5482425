"""The op `rank_lora`: a call's options, tensors and struct, and its formula."""

import dataclasses

from . import gate
from .dtype_set import DTYPE_SETS
from .slots import Slot


@dataclasses.dataclass(frozen=True)
class RankLora:
    T: int
    d_in: int
    d_out: int
    r: int
    k: int
    dtype: str = "f32"
    gate: str = "ROUTER"
    score: str = "SIGMOID"
    bias_mode: str = "WEIGHT"
    normalize: str = "SUM_TO_K"
    eps: float = 0.0
    temperature: float = 1.0
    threshold: float = 0.0
    scale: float = 0.5
    rank_partition: int = 1
    b_layout: str = "OUT_BY_RANK"
    separate_router_input: bool = False
    dropout_p: float = 0.0
    accumulate: bool = False
    padding: int = 0
    saves: bool = True  # forward keeps what backward needs
    counts: bool = True

    op = "rank_lora"
    struct = "moek_rank_lora_args"

    @property
    def dtypes(self):
        return DTYPE_SETS[self.dtype]

    @property
    def routed(self):
        return self.gate == "ROUTER"

    def slots(self):
        d = self.dtypes
        x, weight, grad, acc = d.x, d.weight, d.grad, d.accumulator
        b_shape = (self.d_out, self.r) if self.b_layout == "OUT_BY_RANK" else (self.r, self.d_out)
        router_rows = self.r // self.rank_partition
        saved = "out" if self.saves else ""
        given = "in" if self.gate == "CALLER" else "out"
        product = {"rounded_operands": True, "strided": True}
        slots = [
            Slot("x", self.T, self.d_in, x, "in", "in", strided=True),
            Slot("A", self.r, self.d_in, weight, "in", "in", scale=self.d_in**-0.5, strided=True),
            Slot("B", *b_shape, weight, "in", "in", scale=self.k**-0.5, strided=True),
        ]
        if self.routed:
            slots.append(Slot("W_r", router_rows, self.d_in, weight, "in", "in", scale=self.d_in**-0.5, strided=True))
        if self.separate_router_input:
            slots.append(Slot("router_input", self.T, self.d_in, x, "in", "in", strided=True))
        if self.bias_mode != "NONE":
            slots.append(Slot("bias", 1, self.r, acc, "in", "in", scale=0.1))
        slots += [
            Slot("y", self.T, self.d_out, x, "out", accumulated=self.accumulate, **product),
            Slot("ids", self.T, self.k, "i32", given, "in", fill="ids", of=self.r),
            Slot("gates", self.T, self.k, acc, given, "in"),
            Slot("u", self.T, self.k, acc, saved, "in"),
        ]
        if self.routed:
            slots.append(Slot("gate_logits", self.T, router_rows, acc, saved, "in"))
        elif self.gate == "ACTIVATION_SOFTMAX":
            slots.append(Slot("gate_logits", self.T, self.r, acc, saved, "in"))
        if self.counts:
            slots.append(Slot("counts", 1, self.r, "i32", "out", fill="counts", accumulated=self.accumulate))
        slots += [
            Slot("dy", self.T, self.d_out, x, "", "in", strided=True),
            Slot("dx", self.T, self.d_in, x, "", "out", accumulated=self.accumulate, **product),
            Slot("dA", self.r, self.d_in, grad, "", "out", accumulated=self.accumulate, **product),
            Slot("dB", *b_shape, grad, "", "out", accumulated=self.accumulate, **product),
            Slot("dgates", self.T, self.k, acc, "", "out"),
        ]
        if self.routed:
            slots.append(Slot("dW_r", router_rows, self.d_in, grad, "", "out", accumulated=self.accumulate, **product))
        if self.separate_router_input:
            slots.append(Slot("drouter_input", self.T, self.d_in, x, "", "out", accumulated=self.accumulate, **product))
        return slots

    def fill_args(self, args, header):
        d = self.dtypes
        args.T, args.d_in, args.d_out, args.r, args.k = self.T, self.d_in, self.d_out, self.r, self.k
        args.rank_partition = self.rank_partition
        if self.accumulate:
            args.flags |= header["CALL_FLAG_ACCUMULATE_OUTPUT"] | header["CALL_FLAG_ACCUMULATE_GRADIENTS"]
            args.flags |= header["CALL_FLAG_ACCUMULATE_COUNTS"]
        if d.tf32:
            args.flags |= header["CALL_FLAG_ALLOW_TF32"]
        args.x_dtype = args.y_dtype = header["DTYPE_" + d.x.upper()]
        args.weight_dtype = args.router_dtype = header["DTYPE_" + d.weight.upper()]
        args.grad_dtype = header["DTYPE_" + d.grad.upper()]
        args.b_layout = header["B_LAYOUT_" + self.b_layout]
        args.gate = header["RANK_GATE_" + self.gate]
        args.score = header["GATE_SCORE_" + self.score]
        args.bias_mode = header["BIAS_MODE_" + self.bias_mode]
        args.normalize = header["GATE_NORMALIZE_" + self.normalize]
        args.scale, args.eps, args.temperature, args.threshold = self.scale, self.eps, self.temperature, self.threshold
        args.dropout_p, args.dropout_seed, args.dropout_offset = self.dropout_p, SEED, OFFSET

    def masks(self):
        """[(name, rows, columns, p, stream)] of the dropout masks that the formula needs."""
        return [("mask", self.T, self.d_in, self.dropout_p, "INPUT")] if self.dropout_p > 0 else []

    def ranking(self, math, values):
        if self.gate == "CALLER":
            return None
        if self.routed:
            z = self._router_input(values) @ values["W_r"].t()
            return gate.selection_scores(self, self._per_rank(z), values.get("bias"))
        a = self._dropped(values) @ values["A"].t()
        biased = a if self.bias_mode == "NONE" else a + values["bias"]
        return biased.abs() if self.gate == "ACTIVATION_ABSOLUTE" else biased

    def expected(self, math, values, ids):
        a = math.passed(self._dropped(values) @ values["A"].t())
        u = a.gather(-1, ids)
        expected = {"u": u}
        if self.routed:
            z = math.passed(self._router_input(values) @ values["W_r"].t())
            expected["gate_logits"] = z
            gates = gate.weights_of(self, self._per_rank(z), values.get("bias"), ids)
        elif self.gate == "CALLER":
            gates = values["gates"]
        elif self.gate == "ACTIVATION_SOFTMAX":
            expected["gate_logits"] = a
            norm = (a * a).sum(-1, keepdim=True).sqrt() + self.eps
            w = (a / norm / self.temperature).softmax(-1).gather(-1, ids)
            gates = gate.normalised(self, w * math.at_least(w, self.threshold), 0.0)
        else:
            gates = math.leaf(math.filled(self.T, self.k, 1.0))
        if self.gate != "CALLER":
            expected["gates"] = gates
        dense = math.filled(self.T, self.r, 0.0).scatter(-1, ids, math.passed(gates * u))
        expected["y"] = dense @ (values["B"].t() if self.b_layout == "OUT_BY_RANK" else values["B"]) * self.scale

        wanted = {"dx": values["x"], "dA": values["A"], "dB": values["B"], "dgates": gates}
        if self.routed:
            wanted["dW_r"] = values["W_r"]
        if self.separate_router_input:
            wanted["drouter_input"] = values["router_input"]
        expected.update(zip(wanted, math.gradient([expected["y"]], [values["dy"]], list(wanted.values()))))
        return expected

    def _dropped(self, values):
        return values["x"] * values["mask"] if self.dropout_p > 0 else values["x"]

    def _router_input(self, values):
        return values["router_input"] if self.separate_router_input else self._dropped(values)

    def _per_rank(self, z):
        return z if self.rank_partition == 1 else z.repeat_interleave(self.rank_partition, -1)


# Of the dropout masks; forward, backward and the mask op must agree on them.
SEED, OFFSET = 0x1234567890ABCDEF, 7
