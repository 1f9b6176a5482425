"""The op `core_merge`: a call's options, tensors and struct, and its formula."""

import dataclasses

from .dtype_set import DTYPE_SETS
from .rank_lora import OFFSET, SEED
from .slots import Slot


@dataclasses.dataclass(frozen=True)
class CoreMerge:
    T: int
    d_in: int
    d_out: int
    r: int
    E: int
    dtype: str = "f32"
    router: str = "CORE"
    temperature: float = 1.0
    scale: float = 0.5
    b_layout: str = "OUT_BY_RANK"
    separate_router_input: bool = False
    dropout_p: float = 0.0
    dropout_core_p: float = 0.0
    accumulate: bool = False
    padding: int = 0
    saves: bool = True  # forward keeps what backward needs

    op = "core_merge"
    struct = "moek_core_merge_args"

    @property
    def dtypes(self):
        return DTYPE_SETS[self.dtype]

    @property
    def routed(self):
        return self.router != "CALLER"

    def slots(self):
        d = self.dtypes
        x, weight, grad, acc = d.x, d.weight, d.grad, d.accumulator
        b_shape = (self.d_out, self.r) if self.b_layout == "OUT_BY_RANK" else (self.r, self.d_out)
        router_width = self.r if self.router == "CORE" else self.d_in
        saved = "out" if self.saves else ""
        product = {"rounded_operands": True, "strided": True}
        slots = [
            Slot("x", self.T, self.d_in, x, "in", "in", strided=True),
            Slot("A", self.r, self.d_in, weight, "in", "in", scale=self.d_in**-0.5, strided=True),
            Slot("B", *b_shape, weight, "in", "in", scale=self.r**-0.5, strided=True),
            Slot("C", self.E * self.r, self.r, weight, "in", "in", scale=self.r**-0.5),
        ]
        if self.routed:
            slots.append(Slot("W_g", self.E, router_width, weight, "in", "in", scale=router_width**-0.5, strided=True))
        if self.separate_router_input:
            slots.append(Slot("router_input", self.T, self.d_in, x, "in", "in", strided=True))
        slots += [
            Slot("y", self.T, self.d_out, x, "out", accumulated=self.accumulate, **product),
            Slot("u", self.T, self.r, acc, saved, "in"),
            Slot("p", self.T, self.E, acc, saved if self.routed else "in", "in", rounded_operands=True),
            Slot("v", self.T, self.r, acc, saved, "in", rounded_operands=True),
            Slot("dy", self.T, self.d_out, x, "", "in", strided=True),
            Slot("dx", self.T, self.d_in, x, "", "out", accumulated=self.accumulate, **product),
            Slot("dA", self.r, self.d_in, grad, "", "out", accumulated=self.accumulate, **product),
            Slot("dB", *b_shape, grad, "", "out", accumulated=self.accumulate, **product),
            Slot("dC", self.E * self.r, self.r, grad, "", "out", accumulated=self.accumulate, rounded_operands=True),
            Slot("dp", self.T, self.E, acc, "", "out", rounded_operands=True),
        ]
        if self.routed:
            slots.append(Slot("dW_g", self.E, router_width, grad, "", "out", accumulated=self.accumulate, **product))
        if self.separate_router_input:
            slots.append(Slot("drouter_input", self.T, self.d_in, x, "", "out", accumulated=self.accumulate, **product))
        return slots

    def fill_args(self, args, header):
        d = self.dtypes
        args.T, args.d_in, args.d_out, args.r, args.E = self.T, self.d_in, self.d_out, self.r, self.E
        if self.accumulate:
            args.flags |= header["CALL_FLAG_ACCUMULATE_OUTPUT"] | header["CALL_FLAG_ACCUMULATE_GRADIENTS"]
        if d.tf32:
            args.flags |= header["CALL_FLAG_ALLOW_TF32"]
        args.x_dtype = args.y_dtype = header["DTYPE_" + d.x.upper()]
        args.weight_dtype = args.router_dtype = header["DTYPE_" + d.weight.upper()]
        args.grad_dtype = header["DTYPE_" + d.grad.upper()]
        args.b_layout = header["B_LAYOUT_" + self.b_layout]
        args.router = header["CORE_ROUTER_" + self.router]
        args.scale, args.temperature = self.scale, self.temperature
        args.dropout_p, args.dropout_core_p = self.dropout_p, self.dropout_core_p
        args.dropout_seed, args.dropout_offset = SEED, OFFSET

    def masks(self):
        """[(name, rows, columns, p, stream)] of the dropout masks that the formula needs."""
        masks = [("mask", self.T, self.d_in, self.dropout_p, "INPUT"),
                 ("core_mask", self.T, self.r, self.dropout_core_p, "CORE")]
        return [mask for mask in masks if mask[3] > 0]

    def ranking(self, math, values):
        return None

    def expected(self, math, values, ids):
        x, cores = values["x"], values["C"]
        u = math.passed((x * values["mask"] if self.dropout_p > 0 else x) @ values["A"].t())
        if self.router == "CORE":
            p = (math.passed(u @ values["W_g"].t()) / self.temperature).softmax(-1)
        elif self.router == "INPUT":
            read = values["router_input"] if self.separate_router_input else x
            p = (math.passed(read @ values["W_g"].t()) / self.temperature).softmax(-1)
        else:
            p = values["p"]
        weights = math.passed(p)
        v = weights.narrow(-1, 0, 1) * (u @ cores.narrow(0, 0, self.r))
        for e in range(1, self.E):
            v = v + weights.narrow(-1, e, 1) * (u @ cores.narrow(0, e * self.r, self.r))
        v = math.passed(v)
        dropped = v * values["core_mask"] if self.dropout_core_p > 0 else v
        y = dropped @ (values["B"].t() if self.b_layout == "OUT_BY_RANK" else values["B"]) * self.scale
        expected = {"u": u, "v": v, "y": y}
        if self.routed:
            expected["p"] = p

        wanted = {"dx": x, "dA": values["A"], "dB": values["B"], "dC": cores, "dp": p}
        if self.routed:
            wanted["dW_g"] = values["W_g"]
        if self.separate_router_input:
            wanted["drouter_input"] = values["router_input"]
        expected.update(zip(wanted, math.gradient([y], [values["dy"]], list(wanted.values()))))
        return expected
