"""How much each task's loss counts beside the others', decided while training; the spec's own weights come before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from towerspec.train.distributed import sum_over_processes


class Balancer(nn.Module):
    """The base: `forward` takes the tasks' mean losses that a batch has, and gives the loss to go down on.

    `shared` are the parameters of the last layer that all tasks share, for those that look at its gradient.
    """

    def __init__(self, tasks: Sequence[str], kinds: Mapping[str, str], shared: Sequence[Tensor]) -> None:
        super().__init__()
        self.tasks = list(tasks)
        self.kinds = dict(kinds)
        self.shared = list(shared)

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def weights(self) -> dict[str, float]:
        """What each task's loss is multiplied by now, for the log."""
        return {}


class Fixed(Balancer):
    """The sum, as the spec's weights have it."""

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        return torch.stack(list(losses.values())).sum()


class Uncertainty(Balancer):
    """Each task's loss divided by its learned variance: `exp(-s) L + s / 2`, and for a squared error half of the first.

    `s = log sigma^2` is learned with the model, from 0. Kendall, Gal & Cipolla 2018, arXiv:1705.07115, equations 7
    to 10.
    """

    def __init__(self, tasks: Sequence[str], kinds: Mapping[str, str], shared: Sequence[Tensor]) -> None:
        super().__init__(tasks, kinds, shared)
        self.log_variance = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        at = [self.tasks.index(task) for task in losses]
        s = self.log_variance[at]
        halves = torch.tensor([0.5 if self.kinds[task] == "squared_error" else 1.0 for task in losses])
        return (halves.to(s.device) * torch.exp(-s) * torch.stack(list(losses.values())) + s / 2).sum()

    def weights(self) -> dict[str, float]:
        return dict(zip(self.tasks, torch.exp(-self.log_variance).tolist(), strict=True))


class GradNorm(Balancer):
    """Weights under which no task's gradient outgrows the others': those that learn slowly get the larger ones.

    After each step the weights `w` move so that `w_i |dL_i/dW|` nears `mean_j(w_j |dL_j/dW|) * r_i^alpha`, where `r_i`
    is `L_i / L_i(0)` over its mean and `W` the last shared layer; then they are scaled to sum to the number of tasks.
    Chen et al. 2018, arXiv:1711.02257, algorithm 1, with its `alpha` of 1.5 and a step of 0.025.
    """

    alpha, step = 1.5, 0.025
    w: Tensor
    first: Tensor

    def __init__(self, tasks: Sequence[str], kinds: Mapping[str, str], shared: Sequence[Tensor]) -> None:
        super().__init__(tasks, kinds, shared)
        self.register_buffer("w", torch.ones(len(tasks)))
        self.register_buffer("first", torch.full([len(tasks)], torch.nan))

    def forward(self, losses: Mapping[str, Tensor]) -> Tensor:
        at = torch.tensor([self.tasks.index(task) for task in losses], device=self.w.device)
        values = torch.stack(list(losses.values()))
        weights = self.w[at]
        if self.training and self.shared:
            self._move(at, list(losses.values()))
        return (weights * values).sum()

    def _move(self, at: Tensor, losses: Sequence[Tensor]) -> None:
        """One step of the weights of the tasks that this batch has."""
        norms = torch.stack([self._norm(loss) for loss in losses])
        values = sum_over_processes(torch.stack([loss.detach() for loss in losses])) / sum_over_processes(
            torch.ones(1, device=norms.device)
        )
        self.first[at] = torch.where(self.first[at].isnan(), values.clamp(min=1e-8), self.first[at])
        rate = values / self.first[at]
        weighted = self.w[at] * norms
        target = weighted.mean() * (rate / rate.mean().clamp(min=1e-8)) ** self.alpha
        # The derivative of sum_i |w_i n_i - target_i|, the targets held.
        moved = (self.w[at] - self.step * torch.sign(weighted - target) * norms).clamp(min=1e-3)
        self.w[at] = moved
        self.w *= len(self.tasks) / self.w.sum()

    def _norm(self, loss: Tensor) -> Tensor:
        grads: Sequence[Tensor | None] = [None] * len(self.shared)
        if loss.requires_grad:  # not where this process has no row of the task; the others wait for it all the same
            grads = torch.autograd.grad(loss, self.shared, retain_graph=True, allow_unused=True)
        pairs = zip(grads, self.shared, strict=True)
        flat = torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])
        return (sum_over_processes(flat) / sum_over_processes(torch.ones(1, device=flat.device))).norm()

    def weights(self) -> dict[str, float]:
        return dict(zip(self.tasks, self.w.tolist(), strict=True))


BALANCERS: dict[str, Callable[[Sequence[str], Mapping[str, str], Sequence[Tensor]], Balancer]] = {
    "fixed": Fixed,
    "uncertainty": Uncertainty,
    "gradnorm": GradNorm,
}
