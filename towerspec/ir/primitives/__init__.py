"""The primitives: about thirty kinds of operation that every layer lowers to."""

from towerspec.ir.primitives.base import PRIMITIVES, Primitive, broadcast, join
from towerspec.ir.primitives.leaves import Expand, Init, Input, Param
from towerspec.ir.primitives.lookups import Bucketize, Embed, EmbedBag, Fill, Hash, Ids, Interpolate, Mask, Present
from towerspec.ir.primitives.narrow import Cast, Codes, LinearInt8, RowScale
from towerspec.ir.primitives.pointwise import (
    UNARY,
    Affine,
    BatchNorm,
    Binary,
    Clamp,
    Detach,
    Dropout,
    LayerNorm,
    MaskFill,
    MulAdd,
    Softmax,
    Unary,
)
from towerspec.ir.primitives.products import Attention, Linear, LinearPacked, Matmul, Pack
from towerspec.ir.primitives.routing import Merge, Opaque
from towerspec.ir.primitives.shapes import Concat, Pool, Reduce, Reshape, Slice, Stack, Transpose

__all__ = [
    "PRIMITIVES",
    "UNARY",
    "Affine",
    "Attention",
    "BatchNorm",
    "Binary",
    "Bucketize",
    "Cast",
    "Clamp",
    "Codes",
    "Concat",
    "Detach",
    "Dropout",
    "Embed",
    "EmbedBag",
    "Expand",
    "Fill",
    "Hash",
    "Ids",
    "Init",
    "Input",
    "Interpolate",
    "LayerNorm",
    "Linear",
    "LinearInt8",
    "LinearPacked",
    "Mask",
    "MaskFill",
    "Matmul",
    "Merge",
    "MulAdd",
    "Opaque",
    "Pack",
    "Param",
    "Pool",
    "Present",
    "Primitive",
    "Reduce",
    "Reshape",
    "RowScale",
    "Slice",
    "Softmax",
    "Stack",
    "Transpose",
    "Unary",
    "broadcast",
    "join",
]
