"""Public kernels for the same work, where their packages are installed and their shapes allow it.

A peer is compared with the op's results before it is timed like any baseline, so that one whose interface has changed is
left out with the reason instead of being timed on something else.
"""

import dataclasses
import importlib

import torch


@dataclasses.dataclass(frozen=True)
class Peer:
    """`forward(module, case, tensors)` returns what the op calls weights."""

    name: str
    module: str
    applies: object
    forward: object
    differentiable: bool = False

    def load(self):
        """The module; raises ImportError."""
        return importlib.import_module(self.module)


def _softmax_gate(case):
    return (case.op == "gate" and case.top_k and case.score == "SOFTMAX" and case.bias_mode == "NONE"
            and case.normalize in ("NONE", "SUM_TO_ONE") and case.eps == 0 and case.temperature == 1)


def _sigmoid_gate(case):
    return (case.op == "gate" and case.top_k and case.score == "SIGMOID" and case.bias_mode == "SELECTION"
            and case.normalize == "SUM_TO_ONE" and case.temperature == 1)


def _transformer_engine(module, case, t):
    # Softmax after the selection is softmax before it, renormalised. The result is dense.
    probabilities, _ = module.fused_topk_with_score_function(
        t["logits"], case.k, use_pre_softmax=case.normalize == "NONE", num_groups=None, group_topk=None, scaling_factor=None,
        score_function=case.score.lower(), expert_bias=t.get("bias"))
    return probabilities.gather(-1, t["ids"].long())


def _vllm(module, case, t):
    weights, ids, rows = _selection(case, t)
    module.topk_softmax(weights, ids, rows, t["logits"], case.normalize == "SUM_TO_ONE")
    return weights


def _sglang(module, case, t):
    weights, ids, _ = _selection(case, t)
    module.topk_softmax(weights, ids, t["logits"], case.normalize == "SUM_TO_ONE")
    return weights


def _selection(case, t):
    shape, device = (case.T, case.k), t["logits"].device
    return (torch.empty(shape, dtype=torch.float32, device=device), torch.empty(shape, dtype=torch.int32, device=device),
            torch.empty(shape, dtype=torch.int32, device=device))


PEERS = (
    Peer("TransformerEngine", "transformer_engine.pytorch.router", lambda case: _softmax_gate(case) or _sigmoid_gate(case),
         _transformer_engine, differentiable=True),
    Peer("vLLM", "vllm._custom_ops", _softmax_gate, _vllm),
    Peer("SGLang", "sgl_kernel", _softmax_gate, _sglang),
)
