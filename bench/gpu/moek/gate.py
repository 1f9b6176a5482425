"""The op `gate`: a call's options, tensors and struct, and its formula."""

import dataclasses

from .dtype_set import DTYPE_SETS
from .slots import Slot


@dataclasses.dataclass(frozen=True)
class Gate:
    T: int
    E: int
    k: int
    dtype: str = "f32"
    score: str = "SOFTMAX"
    select: str = "TOP_K"
    bias_mode: str = "NONE"
    normalize: str = "SUM_TO_ONE"
    eps: float = 0.0
    temperature: float = 1.0
    weight_scale: float = 1.0
    accumulate: bool = False
    padding: int = 0
    saves: bool = True  # also writes the optional outputs counts and lse

    op = "gate"
    struct = "moek_gate_args"

    @property
    def dtypes(self):
        return DTYPE_SETS[self.dtype]

    @property
    def top_k(self):
        return self.select == "TOP_K"

    def slots(self):
        x, acc = self.dtypes.x, self.dtypes.accumulator
        slots = [Slot("logits", self.T, self.E, x, "in", "in", scale=2.0, strided=True)]
        if self.bias_mode != "NONE":
            slots.append(Slot("bias", 1, self.E, acc, "in", "in", scale=0.1))
        if self.top_k:
            slots.append(Slot("ids", self.T, self.k, "i32", "out", "in", of=self.E))
        slots.append(Slot("weights", self.T, self.k, acc, "out"))
        if self.saves and self.top_k:
            slots.append(Slot("counts", 1, self.E, "i32", "out", fill="counts", accumulated=self.accumulate))
        if self.saves:
            slots.append(Slot("lse", self.T, 1, acc, "out"))
        slots.append(Slot("dweights", self.T, self.k, acc, "", "in"))
        if self.saves:
            slots.append(Slot("dlse", self.T, 1, acc, "", "in"))
        slots.append(Slot("dlogits", self.T, self.E, x, "", "out", strided=True, accumulated=self.accumulate))
        return slots

    def fill_args(self, args, header):
        args.T, args.E, args.k = self.T, self.E, self.k
        if self.accumulate:
            args.flags = header["CALL_FLAG_ACCUMULATE_OUTPUT"] | header["CALL_FLAG_ACCUMULATE_COUNTS"]
        args.logits_dtype = header["DTYPE_" + self.dtypes.x.upper()]
        args.score = header["GATE_SCORE_" + self.score]
        args.select = header["GATE_SELECT_" + self.select]
        args.bias_mode = header["BIAS_MODE_" + self.bias_mode]
        args.normalize = header["GATE_NORMALIZE_" + self.normalize]
        args.eps, args.temperature, args.weight_scale = self.eps, self.temperature, self.weight_scale

    def masks(self):
        return []

    def ranking(self, math, values):
        """What experts are selected by: the larger, the better."""
        return selection_scores(self, values["logits"], values.get("bias"))

    def expected(self, math, values, ids):
        logits = values["logits"]
        weights = weights_of(self, logits, values.get("bias"), ids) * self.weight_scale
        outputs, seeds = [weights], [values["dweights"]]
        expected = {"weights": weights}
        if self.saves:
            lse = (logits / self.temperature).logsumexp(-1, keepdim=True)
            outputs.append(lse)
            seeds.append(values["dlse"])
            expected["lse"] = lse
        expected["dlogits"], = math.gradient(outputs, seeds, [logits])
        return expected


def scores(options, logits):
    z = logits / options.temperature
    return {"SOFTMAX": lambda: z.softmax(-1), "SIGMOID": z.sigmoid, "IDENTITY": lambda: z}[options.score]()


def selection_scores(options, logits, bias):
    """Scores grow with the logit, which ranks the same where there is no bias."""
    return logits if options.bias_mode == "NONE" else scores(options, logits) + bias


def weights_of(options, logits, bias, ids):
    """The weights of the experts `ids`, or of all of them where ids is None; without weight_scale."""
    values = scores(options, logits)
    if options.bias_mode == "WEIGHT":
        values = values + bias
    if ids is not None:
        values = values.gather(-1, ids)
    return normalised(options, values, options.eps)


def normalised(options, values, eps):
    if options.normalize == "NONE":
        return values
    total = options.k if options.normalize == "SUM_TO_K" else 1
    return values / (values.sum(-1, keepdim=True) + eps) * float(total)
