"""The expert's version with the trunk's weights laid out for oneDNN beforehand: what lies beyond plain PyTorch.

These operators are PyTorch's own, those that its Inductor compiler emits, but no documented interface; a packed weight
can't be saved in a file, so that a server has to pack it as it loads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.expert import Expert, Trunk
from benchmarks.expert_features import State
from benchmarks.floor import pack


class PackedTrunk(Trunk):
    """The same trunk; a product and its activation are one call."""

    def __init__(self, s: State) -> None:
        super().__init__(s)
        for name in ("candidate", "second", "third"):
            self.register_buffer(f"{name}_packed", pack(getattr(self, name)))
        for k in range(4):
            self.register_buffer(f"up{k}", pack(self.up[k]))
            self.register_buffer(f"down{k}", pack(self.down[k]))

    def forward(self, x0: Tensor, request: Tensor, of: Tensor) -> Tensor:
        once = F.linear(request, self.request, self.biases[0])
        ours = x0[:, : self.candidate.size(1)]
        if once.size(0) == 1:
            v = torch.ops.mkldnn._linear_pointwise(ours, self.candidate_packed, once[0], "none", [], "")
        else:
            v = torch.ops.mkldnn._linear_pointwise(ours, self.candidate_packed, None, "none", [], "")
            v.add_(torch.index_select(once, 0, of))
        x = torch.addcmul(x0, x0, v, out=v)
        v = torch.ops.mkldnn._linear_pointwise(x, self.second_packed, self.biases[1], "none", [], "")
        x = torch.addcmul(x, x0, v, out=v)
        v = torch.ops.mkldnn._linear_pointwise(x, self.third_packed, self.biases[2], "none", [], "")
        return self.experts(torch.addcmul(x, x0, v, out=v))

    def experts(self, x: Tensor) -> Tensor:
        gate = torch.softmax(F.linear(x, self.gate), 1)
        total = through(x, self.up0, self.up_bias[0], self.down0, self.down_bias[0]).mul_(gate[:, 0:1])
        total.addcmul_(through(x, self.up1, self.up_bias[1], self.down1, self.down_bias[1]), gate[:, 1:2])
        total.addcmul_(through(x, self.up2, self.up_bias[2], self.down2, self.down_bias[2]), gate[:, 2:3])
        total.addcmul_(through(x, self.up3, self.up_bias[3], self.down3, self.down_bias[3]), gate[:, 3:4])
        return total


def through(x: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
    """One expert."""
    h = torch.ops.mkldnn._linear_pointwise(x, up, up_bias, "relu", [], "")
    y: Tensor = torch.ops.mkldnn._linear_pointwise(h, down, down_bias, "relu", [], "")
    return y


def packed_expert(state: State) -> torch.jit.ScriptModule:
    """Scripted and frozen, as the plain one."""
    module = Expert(state).eval()
    module.trunk = PackedTrunk(state)
    scripted = torch.jit.script(module.eval())
    torch._C._jit_pass_inline(scripted.graph)
    return torch.jit.freeze(scripted)
