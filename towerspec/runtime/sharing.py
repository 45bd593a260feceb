"""Surfaces of one process share their weights: what two files hold alike is kept once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_SMALLEST = 4096  # bytes; below that a tensor costs less than the look for its twin


class Pool:
    """The weights that are loaded so far, to give to later surfaces what is the same in them.

    A surface's file holds the trunk's weights as constants of its graph, so that it needs no other file. In a process
    that serves several surfaces, the second one's are dropped as soon as they are loaded, for the first one's.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[Any, ...], list[Tensor]] = {}

    def share(self, module: torch.jit.ScriptModule) -> None:
        """Puts tensors of the pool in place of those equal to them, bit for bit; to be called before the first call."""
        for node in _constants(module.graph):
            node.t_("value", self._one(node.t("value")))
        for part in module.modules():
            for name, x in part.named_buffers(recurse=False):  # weights that loading laid out for the CPU
                setattr(part, name, self._one(x))

    def _one(self, x: Tensor) -> Tensor:
        plain = _plain(x)
        if plain.layout != torch.strided or x.is_quantized or x.numel() * x.element_size() < _SMALLEST:
            return x
        alike = self._held.setdefault((x.layout, x.dtype, x.device, x.shape, plain.stride()), [])
        whole = _bits(plain)
        for other in alike:
            if torch.equal(_bits(_plain(other)), whole):  # as bits, since NaN is not equal to itself
                return other
        alike.append(x)
        return x


def _plain(x: Tensor) -> Tensor:
    return x.to_dense() if x.is_mkldnn else x


def _bits(x: Tensor) -> Tensor:
    size = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
    return x.view(size[x.element_size()])


def _constants(block: Any) -> Iterator[Any]:
    """A graph's constant tensors, those within branches and loops as well."""
    for node in block.nodes():
        if node.kind() == "prim::Constant" and node.hasAttribute("value") and node.kindOf("value") == "t":
            yield node
        for inner in node.blocks():
            yield from _constants(inner)
