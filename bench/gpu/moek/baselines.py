"""What a call is compared with: the same formula in PyTorch, in the best form that we know and as its authors published it, and
the bare matrix products.

A baseline takes the tensors of a call by name and returns what the op returns; autograd gives the gradients. Each is compared
with the op's own results before it is timed.
"""

import dataclasses

import torch


@dataclasses.dataclass(frozen=True)
class Baseline:
    """`forward(case, tensors)` returns the op's result."""

    name: str
    forward: object
    compiled: bool = False


def result_name(case):
    return "weights" if case.op == "gate" else "y"


def gradient_names(case):
    """{input: the tensor of the op that holds its gradient}."""
    if case.op == "gate":
        return {"logits": "dlogits"}
    names = {"x": "dx", "A": "dA", "B": "dB"}
    if case.op == "core_merge":
        names["C"] = "dC"
        if case.routed:
            names["W_g"] = "dW_g"
    elif case.routed:
        names["W_r"] = "dW_r"
    elif case.gate == "CALLER":
        names["gates"] = "dgates"
    return names


def upstream_name(case):
    return "dweights" if case.op == "gate" else "dy"


def baselines(case, headline):
    """Every baseline of a case; the expensive ones for headline points only."""
    best = {"gate": gate, "rank_lora": rank_lora, "core_merge": core_merge}[case.op]
    yield Baseline("torch", best)
    if not headline:
        return
    yield Baseline("torch.compile", best, compiled=True)
    if case.op == "rank_lora" and case.routed and case.rank_partition == 1:
        yield Baseline("torch, stacked weights", rank_lora_stacked)
        yield Baseline("SMoRA as published", rank_lora_gathered)
    if case.op == "core_merge":
        yield Baseline("CoMoL as published", core_merge_per_token)


# --- gate ---------------------------------------------------------------------------------------------------------------------


def gate(case, t):
    return _routed(case, t["logits"].float(), t.get("bias"))[1] * case.weight_scale


def _routed(case, logits, bias):
    """Ids and weights of the k best."""
    s = logits if case.temperature == 1 else logits / case.temperature
    if case.score == "SOFTMAX":
        s = s.softmax(-1)
    elif case.score == "SIGMOID":
        s = s.sigmoid()
    if case.bias_mode == "WEIGHT":
        v, ids = (s + bias).topk(case.k, dim=-1)
    elif case.bias_mode == "SELECTION":
        ids = (s + bias).topk(case.k, dim=-1).indices
        v = s.gather(-1, ids)
    else:
        v, ids = s.topk(case.k, dim=-1)
    if case.normalize != "NONE":
        v = v / (v.sum(-1, keepdim=True) + case.eps)
        if case.normalize == "SUM_TO_K":
            v = v * case.k
    return ids, v


# --- rank_lora ----------------------------------------------------------------------------------------------------------------


def rank_lora(case, t):
    """Two or three dense products, inactive ranks masked: what tensor cores like best."""
    a = t["x"] @ t["A"].to(t["x"].dtype).t()
    if case.routed:
        logits = t["x"] @ t["W_r"].to(t["x"].dtype).t()
        if case.rank_partition > 1:
            logits = logits.repeat_interleave(case.rank_partition, -1)
        ids, gates = _routed(case, logits.float(), t.get("bias"))
    elif case.gate == "CALLER":
        ids, gates = t["ids"].long(), t["gates"]
    else:
        ids, gates = _selected_by_activation(case, a.float(), t.get("bias"))
    return _expand(case, t, a, ids, gates)


def rank_lora_stacked(case, t):
    """The router stacked under A, so that x is read once."""
    stacked = torch.cat((t["A"], t["W_r"])).to(t["x"].dtype)
    a, logits = (t["x"] @ stacked.t()).split(case.r, dim=-1)
    ids, gates = _routed(case, logits.float(), t.get("bias"))
    return _expand(case, t, a, ids, gates)


def rank_lora_gathered(case, t):
    """As SMoRA publishes it: f32, and the selected rows of A and B gathered for every token (two tensors of T k d elements)."""
    x = t["x"].float()
    logits = x @ t["W_r"].float().t()
    ids, gates = _routed(case, logits, t.get("bias"))
    u = torch.einsum("td,tkd->tk", x, t["A"].float()[ids])
    delta = torch.einsum("tk,tkd->td", u * gates, t["B"].float().t()[ids]) * case.scale
    return (delta + t["y"]).to(t["x"].dtype) if case.accumulate else delta.to(t["x"].dtype)


def _selected_by_activation(case, a, bias):
    if case.gate == "ACTIVATION_SOFTMAX":
        w = (a / (torch.linalg.vector_norm(a, dim=-1, keepdim=True) + case.eps) / case.temperature).softmax(-1)
        v, ids = w.topk(case.k, dim=-1)
        return ids, v * (v >= case.threshold)
    biased = a if case.bias_mode == "NONE" else a + bias
    ids = (biased.abs() if case.gate == "ACTIVATION_ABSOLUTE" else biased).topk(case.k, dim=-1).indices
    return ids, torch.ones_like(ids, dtype=a.dtype)


def _expand(case, t, a, ids, gates):
    dense = torch.zeros(a.shape, dtype=gates.dtype, device=a.device).scatter(-1, ids, gates * case.scale)
    return _onto(case, t, a * dense.to(a.dtype))


def _onto(case, t, h):
    """h B^T, added to y where the op does that."""
    b = t["B"].to(h.dtype).t() if case.b_layout == "OUT_BY_RANK" else t["B"].to(h.dtype)
    return torch.addmm(t["y"], h, b) if case.accumulate else h @ b


# --- core_merge ---------------------------------------------------------------------------------------------------------------


def core_merge(case, t):
    """The mix as one product: p (x) u times the stacked cores."""
    u, p = _project(case, t)
    outer = (p.unsqueeze(-1) * u.unsqueeze(1)).reshape(case.T, case.E * case.r)
    return _onto(case, t, outer @ t["C"].to(u.dtype) * case.scale)


def core_merge_per_token(case, t):
    """As CoMoL publishes it: a merged core per token."""
    u, p = _project(case, t)
    merged = torch.einsum("te,eij->tij", p, t["C"].to(u.dtype).reshape(case.E, case.r, case.r))
    return _onto(case, t, torch.einsum("ti,tij->tj", u, merged) * case.scale)


def _project(case, t):
    u = t["x"] @ t["A"].to(t["x"].dtype).t()
    if case.router == "CALLER":
        return u, t["p"].to(u.dtype)
    read = u if case.router == "CORE" else t["x"]
    logits = (read @ t["W_g"].to(u.dtype).t()).float()
    return u, (logits / case.temperature).softmax(-1).to(u.dtype)


# --- the bare products -----------------------------------------------------------------------------------------------------------


def skinny_products(case, t):
    """The op's large products alone, as cuBLAS does them into buffers made beforehand: {direction: function}, or None."""
    if case.op == "gate" or case.dtypes.x != case.dtypes.weight:
        return None
    x, dy, y, dx = t["x"], t["dy"], t["y"], torch.empty_like(t["dx"])
    on_x = [t["A"]]
    if case.op == "rank_lora" and case.routed:
        on_x.append(t["W_r"])
    if case.op == "core_merge" and case.router == "INPUT":
        on_x.append(t["W_g"])
    stacked = torch.cat(on_x)
    b = t["B"].t() if case.b_layout == "OUT_BY_RANK" else t["B"]
    p = torch.empty((case.T, stacked.shape[0]), dtype=x.dtype, device=x.device)
    h = torch.randn((case.T, case.r), dtype=torch.float32, device=x.device).to(x.dtype)
    z = torch.randn((case.T, stacked.shape[0]), dtype=torch.float32, device=x.device).to(x.dtype)
    out, dh = torch.empty_like(y), torch.empty_like(h)
    db, dw = torch.empty_like(t["B"]), torch.empty_like(stacked)

    def forward():
        torch.mm(x, stacked.t(), out=p)
        if case.accumulate:
            torch.addmm(y, h, b, out=out)
        else:
            torch.mm(h, b, out=out)

    def backward():
        torch.mm(dy, b.t(), out=dh)
        if case.b_layout == "OUT_BY_RANK":
            torch.mm(dy.t(), h, out=db)
        else:
            torch.mm(h.t(), dy, out=db)
        torch.mm(z.t(), x, out=dw)
        torch.mm(z, stacked, out=dx)

    return {"forward": forward, "backward": backward}
