"""The few functions that generated code calls; each generated file carries the ones it uses, as they stand here.

They are scripted by TorchScript, so they keep to what it understands; annotations are not postponed.
"""

import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def tensor(
    shape: list[int], kind: str = "zeros", *values: float, trainable: bool = True, dtype: torch.dtype = torch.float32
) -> Tensor:
    """A parameter, or a buffer where training doesn't change it, that knows how it begins."""
    empty = torch.zeros(shape, dtype=dtype)
    made = nn.Parameter(empty) if trainable else empty
    made.init = (kind, values)  # type: ignore[attr-defined]
    return made


class Part(nn.Module):
    """A named part of the model: tensors and further parts."""

    def __init__(self, /, **members: object) -> None:  # a part may be called `self`
        super().__init__()
        for name, member in members.items():
            if isinstance(member, nn.Module):
                self.add_module(name, member)
            elif isinstance(member, nn.Parameter):
                self.register_parameter(name, member)
            elif isinstance(member, Tensor):
                self.register_buffer(name, member)


class Packed(nn.Module):
    """A weight [O, I]; a file holds it as it is, and loading the file lays it out for oneDNN where that is faster."""

    lays_out = True  # freezing leaves it a module

    def __init__(self, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros([rows, columns], dtype=dtype))

    @torch.jit.export
    def __getstate__(self) -> tuple[Tensor, bool]:
        return self.weight.to_dense() if self.weight.is_mkldnn else self.weight, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[Tensor, bool]) -> None:
        self.weight, self.training = state
        if self.weight.numel() > 0 and gains(self.weight):
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, 256)

    def __deepcopy__(self, memo: dict[int, object]) -> nn.Module:  # Python would take the state for its own
        made = Packed(0, 0).train(self.training)
        made.weight = self.weight.__deepcopy__(memo)
        return made

    def forward(self, x: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        if bias is not None and bias.dim() == 2:  # each row has its own
            if bias.size(0) == 0 or bias.stride(0) != 0:
                out = self.product(x, None, False).add_(bias)
                return torch.relu_(out) if relu else out
            bias = bias[0]  # the one request's, as a view for each row
        return self.product(x, bias, relu)

    def product(self, x: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        if self.weight.is_mkldnn:
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, bias, "relu" if relu else "none", [], "")
        out = F.linear(x, self.weight, bias)
        return torch.relu_(out) if relu else out


def gains(weight: Tensor) -> bool:
    """Whether this CPU is the faster with a weight that oneDNN has laid out.

    Of float32 numbers it is with AVX-512, which PyTorch's own products, MKL's, use on Intel's CPUs alone. The newest of
    those, which compute in float16 as well, lose with few rows what they gain with many.
    """
    if not weight.is_cpu or not torch.ops.mkldnn._is_mkldnn_bf16_supported():  # it asks for AVX-512
        return False
    return weight.dtype == torch.bfloat16 or not torch.ops.mkldnn._is_mkldnn_fp16_supported()


def row_scale(x: Tensor) -> Tensor:
    """The step between 8-bit codes of each row: its largest magnitude over 127, never zero."""
    return x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127.0


def codes(x: Tensor, scale: Tensor) -> Tensor:
    """Each number as a whole number of steps, in 8 bits."""
    return torch.round(x / scale).to(torch.int8)


def linear_int8(x: Tensor, scale: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear of 8-bit codes: x [N, I] with a scale a row, weight [O, I] with a scale an output."""
    out = torch._int_mm(x, weight.t()) * scales
    return out * scale if bias is None else torch.addcmul(bias, out, scale)


def begin(module: nn.Module, inits: dict[str, tuple[object, ...]]) -> nn.Module:
    """A module from outside whose tensors know how they begin."""
    for name, x in [*module.named_parameters(), *module.named_buffers()]:
        x.init = (inits[name][0], inits[name][1:])  # type: ignore[attr-defined]
    return module


def initialise(model: nn.Module, seed: int) -> None:
    """Fills each tensor from a generator seeded by its own name, so that no other part of the model changes it."""
    with torch.no_grad():
        for name, x in [*model.named_parameters(), *model.named_buffers()]:
            kind, values = x.init  # type: ignore[attr-defined]
            digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "little"))
            if kind == "normal":
                x.normal_(0.0, values[0], generator=generator)
            elif kind == "uniform":
                x.uniform_(-values[0], values[0], generator=generator)
            elif kind == "range":
                x.copy_(torch.linspace(values[0], values[1], x.shape[-1]).expand_as(x))
            else:
                x.fill_({"zeros": 0.0, "ones": 1.0, "constant": values[0] if values else 0.0}[kind])


def row_map(r: int, n: int, counts: Tensor | None, like: Tensor) -> Tensor:
    """The request that each of n candidates belongs to, from how many candidates each of r requests has."""
    if r == 1 and (counts is None or (list(counts.shape) == [1] and int(counts) == n)):
        return torch.zeros([n], dtype=torch.int64, device=like.device)
    if counts is None:
        if r != n:
            raise ValueError(f"{n} candidates for {r} requests: candidates_per_request is needed")
        return torch.arange(n, device=like.device)
    # Each count is bounded first: a sum of large ones wraps around.
    if list(counts.shape) != [r] or bool(((counts < 0) | (counts > n)).any()) or int(counts.sum()) != n:
        raise ValueError(f"candidates_per_request must hold {r} counts from 0 to {n} that add up to {n}")
    return torch.repeat_interleave(torch.arange(r, device=like.device), counts)


def expand(x: Tensor, n: int, request: Tensor) -> Tensor:
    """Each request's row for each of its candidates: [R, ...] to [N, ...]; with one request, a view."""
    if x.size(0) == 1:
        return x.expand([n] + list(x.shape[1:]))
    return x.index_select(0, request)


def dense(x: Tensor) -> Tensor:
    """The same numbers without gaps, in memory of their own."""
    return x.clone(memory_format=torch.contiguous_format)


def surfaces_asked(surface: Tensor, request: Tensor, r: int) -> Tensor:
    """The surface of each of r requests, from that of each of their rows; -1 for a request without any."""
    return torch.full([r], -1, dtype=surface.dtype, device=surface.device).index_copy(0, request, surface)


def repeat(x: Tensor, n: int) -> Tensor:
    """A constant for each of n rows, as a view."""
    return x.unsqueeze(0).expand([n] + list(x.shape))


def row_ids(ids: Tensor, rows: int, unknown: int, missing: int) -> Tensor:
    """Ids that are safe to look up: below 0 the missing one's row, from `rows` on the unknown one's."""
    known = ids.clamp(max=rows) if unknown == rows else torch.where(ids < rows, ids, unknown)
    return torch.where(ids < 0, missing, known)


def id_columns(ids: Tensor, rows: Tensor, start: Tensor, unknown: Tensor, missing: Tensor) -> Tensor:
    """Safe ids of several features, each a column: as `row_ids`, in tables that begin at `start`."""
    return torch.where(ids < 0, missing, torch.where(ids < rows, ids + start, unknown))


def hash_ids(ids: Tensor, rows: int) -> Tensor:
    """A row for any 64-bit id but -1, which is missing: SplitMix64's mix without its lowest bit, modulo the rows.

    A tensor's shift keeps the sign, so the masks take the bits away that it brings in.
    """
    z = ids - 7046029254386353131  # + 0x9e3779b97f4a7c15, in 64 bits that wrap around
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * -4658895280553007687  # 0xbf58476d1ce4e5b9
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685  # 0x94d049bb133111eb
    z = z ^ ((z >> 31) & 0x1FFFFFFFF)
    return torch.where(ids == -1, ids, ((z >> 1) & 0x7FFFFFFFFFFFFFFF) % rows)


def fill(x: Tensor, instead: Tensor) -> Tensor:
    """The number where it is finite: only there is its difference with itself zero."""
    return torch.where(x - x == 0, x, instead)


def present(x: Tensor, absent: Tensor, surface: Tensor, having: list[int]) -> Tensor:
    """The value on the rows of the surfaces that have it, and what stands for it on the others'."""
    have = torch.zeros_like(surface, dtype=torch.bool)
    for index in having:
        have = have | (surface == index)
    return torch.where(have.reshape([-1] + [1] * (x.dim() - 1)), x, absent)


def interpolate(x: Tensor, knots: Tensor, values: Tensor, extend: bool) -> Tensor:
    """The piecewise-linear function through the knots, beyond them flat or with the end slopes."""
    if not extend:
        x = torch.minimum(torch.maximum(x, knots[..., :1]), knots[..., -1:])
    left = ((x >= knots).sum(-1, keepdim=True) - 1).clamp(0, knots.size(-1) - 2)
    knots, values = knots.expand(x.size(0), -1), values.expand(x.size(0), -1)
    x0, x1 = knots.gather(-1, left), knots.gather(-1, left + 1)
    y0, y1 = values.gather(-1, left), values.gather(-1, left + 1)
    width = x1 - x0
    share = torch.where(
        width > 0, (x - x0) / torch.where(width > 0, width, torch.ones_like(width)), (x >= x1).to(x.dtype)
    )
    return y0 + share * (y1 - y0)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, heads: int, scale: float) -> Tensor:
    """Scaled dot-product attention: q [..., Q, D], k and v [..., L, D], mask [..., L]; zeros where nothing is seen."""
    q = q.unflatten(-1, [heads, q.size(-1) // heads]).transpose(-2, -3)  # [..., H, Q, D/H]
    k = k.unflatten(-1, [heads, k.size(-1) // heads]).transpose(-2, -3)
    v = v.unflatten(-1, [heads, v.size(-1) // heads]).transpose(-2, -3)
    seen = None if mask is None else where_not(mask).to(q.dtype).unsqueeze(-2).unsqueeze(-2)  # [..., 1, 1, L]
    out = F.scaled_dot_product_attention(q, k, v, seen, scale=scale).transpose(-2, -3).flatten(-2)
    return out if mask is None else out * mask.any(-1, keepdim=True).unsqueeze(-1)


def masked_softmax(x: Tensor, mask: Tensor) -> Tensor:
    """Softmax over what the mask leaves; zeros where it leaves nothing."""
    return torch.softmax(x + where_not(mask), -1) * mask.any(-1, keepdim=True)


def where_not(mask: Tensor) -> Tensor:
    """What to add to scores so that a softmax sees only those that the mask leaves."""
    return torch.where(mask, 0.0, -1e30)


def pool_sum(x: Tensor, mask: Tensor) -> Tensor:
    """The sum of the positions that the mask leaves: [..., L, D] to [..., D]."""
    return torch.where(mask.unsqueeze(-1), x, torch.zeros_like(x)).sum(-2)


def pool_mean(x: Tensor, mask: Tensor) -> Tensor:
    """The mean of the positions that the mask leaves, zeros without any: [..., L, D] to [..., D]."""
    return pool_sum(x, mask) / mask.sum(-1, keepdim=True).clamp(min=1)


def bag_mean(ids: Tensor, table: Tensor, missing: int) -> Tensor:
    """The mean of a list's rows of a table, in which the missing ids' row is zeros: [..., L] to [..., D]."""
    return F.embedding_bag(ids, table, mode="sum") / (ids != missing).sum(-1, keepdim=True).clamp(min=1)


def pool_max(x: Tensor, mask: Tensor) -> Tensor:
    """The maximum of the positions that the mask leaves, zeros without any: [..., L, D] to [..., D]."""
    top = torch.where(mask.unsqueeze(-1), x, torch.full_like(x, -math.inf)).amax(-2)
    return torch.where(mask.any(-1, keepdim=True), top, torch.zeros_like(top))


def pool_last(x: Tensor, mask: Tensor) -> Tensor:
    """The last of the positions that the mask leaves, zeros without any: [..., L, D] to [..., D]."""
    from_here_on = mask.to(torch.int64).flip([-1]).cumsum(-1).flip([-1])
    return pool_sum(x, mask & (from_here_on == 1))


def batch_norm(
    x: Tensor, mean: Tensor, var: Tensor, scale: Tensor, shift: Tensor, training: bool, momentum: float, eps: float
) -> Tensor:
    """Batch normalisation; a batch of one row has no variance and is normalised by the running statistics."""
    return F.batch_norm(x, mean, var, scale, shift, training and x.size(0) > 1, momentum, eps)


def some(rows: Tensor) -> bool:
    """Whether there is any row, and so something to compute; training may ask this of all processes."""
    return rows.numel() > 0


def every(rows: Tensor, n: int) -> bool:
    """Whether all of the n rows are among these."""
    return rows.numel() == n


def rows_with(key: Tensor, ids: list[int]) -> Tensor:
    """The rows whose key is one of the ids."""
    found = torch.zeros_like(key, dtype=torch.bool)
    for index in ids:
        found = found | (key == index)
    return found.nonzero().flatten()


def rows_without(key: Tensor, ids: list[int]) -> Tensor:
    """The rows whose key is none of the ids."""
    found = torch.ones_like(key, dtype=torch.bool)
    for index in ids:
        found = found & (key != index)
    return found.nonzero().flatten()


def take_rows(x: Tensor, rows: Tensor, n: int) -> Tensor:
    """The given rows of a value of n rows, which is left as it is where they are all."""
    return x if every(rows, n) else x[rows]


def put_rows(out: Tensor, rows: Tensor, part: Tensor, n: int) -> Tensor:
    """A value of n rows with a part in the place of the given ones."""
    return part if every(rows, n) else out.index_copy(0, rows, part)


def unset(like: Tensor, n: int, shape: list[int]) -> Tensor:
    """Rows of not-a-number, to be filled by the paths that have a value."""
    return torch.full([n] + shape, math.nan, dtype=like.dtype, device=like.device)
