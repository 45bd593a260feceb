"""The reference: an op graph interpreted in float64, one primitive after another.

Nothing here shares code with what the emitters print, so that the two can be compared.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from towerspec.ir import primitives as p
from towerspec.ir.graph import Graph, Op
from towerspec.ir.types import Level

_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "elu": lambda x: torch.where(x > 0, x, torch.exp(x) - 1),
    "exp": torch.exp,
    "expm1": torch.special.expm1,
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2.0))),
    "leaky_relu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "log": torch.log,
    "log1p": torch.special.log1p,
    "logsigmoid": lambda x: -torch.logaddexp(torch.zeros_like(x), -x),
    "neg": torch.neg,
    "reciprocal": lambda x: 1.0 / x,
    "relu": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "sigmoid": torch.special.expit,
    "sign": torch.sign,
    "silu": lambda x: x * torch.special.expit(x),
    "softplus": lambda x: torch.logaddexp(torch.zeros_like(x), x),
    "sqrt": torch.sqrt,
    "square": lambda x: x * x,
    "tanh": torch.tanh,
}


@dataclass(frozen=True)
class Rows:
    """The rows of one call: N candidates, and which of R requests each belongs to; with all surfaces, each row's."""

    n: int
    request: Tensor
    surface: Tensor | None = None
    surfaces: tuple[str, ...] = ()
    r: int = 1


def run(
    graph: Graph,
    inputs: Mapping[str, Tensor],
    params: Mapping[str, Tensor],
    n: int,
    counts: Tensor | None = None,
    surface: Tensor | None = None,
) -> dict[str, Tensor]:
    """Every op's value by id, in float64.

    `inputs` are by feature name (`[R, …]` or `[N, …]`), `params` by path, `n` the number of candidates,
    `counts` how many of them each request has (`[R]`; one request, or one candidate each, without it), and
    `surface` each row's index into the graph's surfaces where the graph holds them all.
    """
    return {op.id: value for op, value in steps(graph, inputs, params, n, counts, surface)}


def steps(
    graph: Graph,
    inputs: Mapping[str, Tensor],
    params: Mapping[str, Tensor],
    n: int,
    counts: Tensor | None = None,
    surface: Tensor | None = None,
) -> Iterator[tuple[Op, Tensor]]:
    """As `run`, one op after another; a value that no later op reads isn't kept."""
    rows = _rows(graph, inputs, n, counts, surface)
    last = {id_: op.id for op in graph.ops for id_ in op.inputs}
    values: dict[str, Tensor] = {}
    for op in graph.ops:
        if isinstance(op.prim, p.Input):
            made = _wide(inputs[op.prim.feature])
        elif isinstance(op.prim, p.Param):
            x = params[op.prim.path]
            made = x if op.id in graph.tables else _wide(x)  # a table's rows are widened as they are read
        else:
            made = evaluate(op.prim, rows, op, tuple(values[i] for i in op.inputs))
        yield op, made
        if op.id in last:
            values[op.id] = made
        for id_ in dict.fromkeys(op.inputs):
            if last[id_] == op.id:
                del values[id_]


def _rows(graph: Graph, inputs: Mapping[str, Tensor], n: int, counts: Tensor | None, surface: Tensor | None) -> Rows:
    if counts is not None:
        request = torch.repeat_interleave(torch.arange(len(counts)), counts)
        return Rows(n, request, surface, graph.surfaces, len(counts))
    requests = [inputs[i.feature].shape[0] for _, i in graph.inputs if i.level == Level.REQUEST]
    r = requests[0] if requests else 1
    request = torch.zeros(n, dtype=torch.int64) if r == 1 else torch.arange(r)
    return Rows(n, request, surface, graph.surfaces, r)


def _wide(x: Tensor) -> Tensor:
    return x.double() if x.is_floating_point() else x


@functools.singledispatch
def evaluate(prim: p.Primitive, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    """One primitive's value from its operands' values."""
    raise NotImplementedError(f"the reference doesn't know the primitive {prim.name!r}")


@evaluate.register
def _(prim: p.Expand, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    (x,) = args
    if x.dim() == len(op.type.shape):  # a constant
        count = rows.n if prim.level == Level.CANDIDATE else rows.r
        return torch.stack([x] * count) if count else x.new_zeros((0, *x.shape))
    return x[rows.request]


@evaluate.register
def _(prim: p.Ids, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    ids = args[0].clone()
    ids[args[0] < 0] = prim.missing
    ids[args[0] >= prim.rows] = prim.unknown
    return ids


@evaluate.register
def _(prim: p.Hash, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    known = {id_: _hashed(id_, prim.rows) for id_ in args[0].unique().tolist()}
    return torch.tensor([known[id_] for id_ in args[0].reshape(-1).tolist()], dtype=torch.int64).reshape(args[0].shape)


def _hashed(id_: int, rows: int) -> int:
    if id_ == -1:
        return -1
    z = (id_ + 0x9E3779B97F4A7C15) % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ (z >> shift)) * factor % 2**64
    return ((z ^ (z >> 31)) >> 1) % rows


@evaluate.register
def _(prim: p.Mask, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return ~(args[0] < 0)


@evaluate.register
def _(prim: p.Embed, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    ids, table = args
    return _wide(table[ids.reshape(-1)]).reshape(*ids.shape, table.shape[1])


@evaluate.register
def _(prim: p.Bucketize, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, edges = args
    return (x.unsqueeze(-1) > edges).sum(-1)


@evaluate.register
def _(prim: p.Interpolate, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, knots, values = args
    if not prim.extend:
        x = torch.minimum(torch.maximum(x, knots[..., :1]), knots[..., -1:])
    total = values[..., :1].expand_as(x).clone()
    count = knots.shape[-1]
    for k in range(count - 1):  # add up each segment's rise over the part of it that lies below x
        left, right = knots[..., k : k + 1], knots[..., k + 1 : k + 2]
        width = right - left
        slope = torch.where(width > 0, (values[..., k + 1 : k + 2] - values[..., k : k + 1]) / width, 0.0)
        part = x - left
        part = part if prim.extend and k == 0 else part.clamp(min=0)
        part = part if prim.extend and k == count - 2 else torch.minimum(part, width)
        total = (
            total
            + slope * part
            + torch.where((width <= 0) & (x >= right), values[..., k + 1 : k + 2] - values[..., k : k + 1], 0.0)
        )
    return total


@evaluate.register
def _(prim: p.Fill, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, fill = args
    bad = torch.isnan(x) | torch.isinf(x)
    return torch.where(bad, fill.expand_as(x), x)


@evaluate.register
def _(prim: p.Present, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    if len(args) == 2:
        assert rows.surface is not None
        have = torch.tensor([s in prim.surfaces for s in rows.surfaces])[rows.surface]
        value, default = args
        return torch.where(have.reshape(-1, *[1] * (value.dim() - 1)), value, default)
    (x,) = args
    return x if x.dim() > len(op.type.shape) else x.expand(rows.n, *x.shape)


@evaluate.register
def _(prim: p.Linear, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, weight, *bias = args
    out = torch.tensordot(x, weight, dims=([x.dim() - 1], [1]))
    return out + bias[0] if bias else out


# What rounds in the narrow primitives, in one place each: a test that takes them away is left with exact arithmetic.
_NARROW = {"bf16": torch.bfloat16, "fp16": torch.float16, "float": torch.float64}
_nearest: Callable[[Tensor], Tensor] = torch.round


@evaluate.register
def _(prim: p.Cast, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return args[0].to(_NARROW[prim.dtype]).double()


@evaluate.register
def _(prim: p.RowScale, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return torch.linalg.vector_norm(args[0], math.inf, -1, keepdim=True).clamp(min=1e-30) / 127


@evaluate.register
def _(prim: p.Codes, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, scale = args
    return _nearest(x / scale)


@evaluate.register
def _(prim: p.Pack, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return args[0]


@evaluate.register
def _(prim: p.LinearPacked, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, weight, *bias = args
    out = torch.tensordot(x, weight, dims=([x.dim() - 1], [1])) + (bias[0] if bias else 0.0)
    out = out.clamp(min=0.0) if prim.relu else out
    return out if op.type.dtype == "float" else out.to(_NARROW[op.type.dtype]).double()


@evaluate.register
def _(prim: p.LinearInt8, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, scale, weight, scales, *bias = args
    return torch.tensordot(x * scale, weight * scales.unsqueeze(-1), dims=([1], [1])) + (bias[0] if bias else 0.0)


@evaluate.register
def _(prim: p.Matmul, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    a, b = args
    return torch.matmul(a, b.mT if prim.transposed else b)


@evaluate.register
def _(prim: p.Attention, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    q, k, v = args[:3]
    parts = []
    for head in range(prim.heads):
        qh, kh, vh = (t.chunk(prim.heads, -1)[head] for t in (q, k, v))
        scores = torch.matmul(qh, kh.mT) / math.sqrt(qh.shape[-1])
        if len(args) == 4:
            scores.masked_fill_(~args[3].unsqueeze(-2), -math.inf)
        top = scores.amax(-1, keepdim=True)
        weights = scores.sub_(torch.where(top.isinf(), 0.0, top)).exp_()  # in place: these are the largest values
        total = weights.sum(-1, keepdim=True)
        parts.append(torch.matmul(weights, vh) / torch.where(total > 0, total, 1.0))
    return torch.cat(parts, -1)


@evaluate.register
def _(prim: p.Unary, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return _FUNCTIONS[prim.fn](args[0])


@evaluate.register
def _(prim: p.Binary, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    functions: dict[str, Callable[..., Tensor]] = {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "div": torch.div,
    }
    return functions[prim.fn](*args)


@evaluate.register
def _(prim: p.MulAdd, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    a, b, c = args
    return a * b + c


@evaluate.register
def _(prim: p.Affine, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return args[0] * prim.scale + prim.offset


@evaluate.register
def _(prim: p.Clamp, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return args[0].clamp(prim.low, prim.high)


@evaluate.register
def _(prim: p.MaskFill, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, mask = args
    return x.masked_fill(~(mask.unsqueeze(-1) if x.dim() > mask.dim() else mask), 0.0)


@evaluate.register
def _(prim: p.Softmax, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x = args[0] if len(args) == 1 else args[0].masked_fill(~args[1], -math.inf)
    top = x.amax(-1, keepdim=True) if x.numel() else x[..., :1]
    weights = torch.exp(x - torch.where(top.isinf(), 0.0, top))
    total = weights.sum(-1, keepdim=True)
    return weights / torch.where(total > 0, total, 1.0)


@evaluate.register
def _(prim: p.LayerNorm, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, scale, shift = args
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + prim.eps) * scale + shift


@evaluate.register
def _(prim: p.BatchNorm, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, scale, shift, mean, var = args
    return (x - mean) / torch.sqrt(var + prim.eps) * scale + shift


@evaluate.register
def _(prim: p.Dropout, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return args[0]


@evaluate.register
def _(prim: p.Detach, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return args[0].detach()


@evaluate.register
def _(prim: p.Concat, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return torch.cat(args, args[0].dim() + prim.axis)


@evaluate.register
def _(prim: p.Stack, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    axis = -len(op.type.shape)
    return torch.cat([a.unsqueeze(axis) for a in args], axis)


@evaluate.register
def _(prim: p.Slice, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return args[0].narrow(-1, prim.start, prim.stop - prim.start)


@evaluate.register
def _(prim: p.Reshape, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    (x,) = args
    return x.reshape(prim.shape if op.type.level == Level.CONSTANT else (x.shape[0], *prim.shape))


@evaluate.register
def _(prim: p.Transpose, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return args[0].mT


@evaluate.register
def _(prim: p.Reduce, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    fns: dict[str, Callable[..., Tensor]] = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}
    return fns[prim.fn](args[0], prim.axis, keepdim=prim.keep)


@evaluate.register
def _(prim: p.Pool, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    x, mask = args
    kept = mask.unsqueeze(-1)
    some = mask.any(-1, keepdim=True)
    if prim.fn == "max":
        return torch.where(some, x.masked_fill(~kept, -math.inf).amax(-2), 0.0)
    if prim.fn == "last":
        later = mask.flip(-1).cumsum(-1).flip(-1)  # how many positions from here on are there
        return (x * (mask & (later == 1)).unsqueeze(-1)).sum(-2)
    total = (x * kept).sum(-2)
    return total if prim.fn == "sum" else total / mask.sum(-1, keepdim=True).clamp(min=1)


@evaluate.register
def _(prim: p.ZeroRow, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    kept = torch.arange(args[0].shape[0]) != prim.row
    return args[0] * kept.unsqueeze(-1)


@evaluate.register
def _(prim: p.EmbedBag, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    ids, table = args
    kept = (ids != prim.missing).unsqueeze(-1)
    total = (table[ids] * kept).sum(-2)
    return total if prim.fn == "sum" else total / kept.sum(-2).clamp(min=1)


@evaluate.register
def _(prim: p.Whole, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    return torch.tensor(prim.values)


@evaluate.register
def _(prim: p.IdColumns, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    ids, known, start, unknown, missing = args
    safe = [
        torch.where(x < 0, m, torch.where(x >= k, u, x + s))
        for x, k, s, u, m in zip(ids.unbind(-1), known, start, unknown, missing, strict=True)
    ]
    return torch.stack(safe, -1)


@evaluate.register
def _(prim: p.Merge, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    key, *values = args
    if key.shape[0] != values[0].shape[0]:
        key = key[rows.request]
    taken = torch.zeros_like(key, dtype=torch.bool)
    out = torch.full_like(values[0], math.nan)
    for label, ids in sorted(prim.arms, key=lambda arm: not arm[1]):  # the arm with no ids takes what is left
        here = torch.isin(key, torch.tensor(ids, dtype=key.dtype)) if ids else ~taken
        taken |= here
        if label in prim.defined:
            out[here] = values[prim.defined.index(label)][here]
    return out


@evaluate.register
def _(prim: p.Opaque, rows: Rows, op: Op, args: tuple[Tensor, ...]) -> Tensor:
    count = len(args) - len(prim.names)
    module = load_opaque(prim).double().eval()
    module.load_state_dict(dict(zip(prim.names, args[count:], strict=True)))
    with torch.no_grad():
        return module(*args[:count])


def load_opaque(prim: p.Opaque) -> torch.nn.Module:
    """The module that an opaque op stands for, with its own initial parameters."""
    package, _, name = prim.target.partition(":")
    cls = getattr(importlib.import_module(package), name)
    return cls(**dict(prim.arguments))
