"""Optimisers: one for the dense layers and one for the embedding tables, stepped and saved as one."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer

from towerspec.layers.blocks import Train


class RowWise(Optimizer):
    """Adagrad with one sum a row of a table, instead of one a number: `G_r += mean(g_r^2)` and
    `w_r -= lr g_r / sqrt(G_r)`.

    A row that no id of the batch named has no gradient, and is neither read nor written: a step costs what the batch
    holds, whatever the table's size, where the gradient is sparse. Duchi et al. 2011 (Adagrad); a row at a time as in
    Gupta et al. 2014, "Training Highly Multiclass Classifiers", JMLR 15, section 3.3, and FBGEMM's table batches.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, eps: float = 1e-8) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One step from the parameters' gradients, `[rows, dim]` each, dense or sparse in its rows."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._step(table, table.grad, group["lr"], group["eps"])

    def _step(self, table: Tensor, grad: Tensor, lr: float, eps: float) -> None:
        state = self.state[table]
        if not state:
            state["sum"] = torch.zeros(table.shape[0], 1, device=table.device)
        total = state["sum"]
        if not grad.is_sparse:
            total += grad.square().mean(1, keepdim=True)
            table -= lr * grad / (total.sqrt() + eps)
            return
        grad = grad.coalesce()
        rows, values = grad.indices()[0], grad.values()
        total.index_add_(0, rows, values.square().mean(1, keepdim=True))
        table.index_add_(0, rows, values / (total[rows].sqrt() + eps), alpha=-lr)


class Together(Optimizer):
    """Several optimisers as one, for a trainer that keeps one: their groups in a row, their states in a list."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([p for o in optimizers for g in o.param_groups for p in g["params"]], {})
        # The same dictionaries, so that a schedule's rates reach their optimisers.
        self.param_groups = [group for o in self.optimizers for group in o.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of each; the closure computes the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": [o.state_dict() for o in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.param_groups = [group for o in self.optimizers for group in o.param_groups]


def make_optimizer(options: Train, dense: Sequence[Tensor], tables: Sequence[Tensor]) -> Together:
    """The optimisers that the options name; weight decay is for dense matrices alone, not for biases and scales."""
    decayed = [p for p in dense if p.dim() > 1]
    rest = [p for p in dense if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    made = [_make(options.optimizer, [g for g in groups if g["params"]], options.learning_rate)] if dense else []
    if tables:
        made.append(_make(options.embedding_optimizer, list(tables), options.embedding_learning_rate))
    return Together(made)


def _make(name: str, params: Any, lr: float) -> Optimizer:
    kinds: dict[str, Callable[..., Optimizer]] = {
        "adamw": AdamW,
        "adam": Adam,
        "adagrad": Adagrad,
        "sgd": SGD,
        "rowwise": RowWise,
    }
    return kinds[name](params, lr=lr)


def schedule(options: Train, steps: int) -> Callable[[int], float]:
    """What the learning rates are multiplied by at each step of `steps`.

    >>> rate = schedule(Train(schedule="cosine", warmup=2), 10)
    >>> [round(rate(i), 2) for i in (0, 1, 2, 6, 10)]
    [0.5, 1.0, 1.0, 0.5, 0.0]
    """

    def rate(step: int) -> float:
        if step < options.warmup:
            return (step + 1) / options.warmup
        done = min(1.0, (step - options.warmup) / max(1, steps - options.warmup))
        return {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[options.schedule]

    return rate


def clip(params: Iterable[Tensor], largest: float) -> float:
    """Scales the gradients, dense and sparse, so that their joint norm is at most `largest`; returns what it was."""
    grads = [p.grad for p in params if p.grad is not None]
    if not grads:
        return 0.0
    parts = []
    for p in grads:
        parts.append((p.coalesce().values() if p.is_sparse else p).norm())
    norm = float(torch.stack(parts).norm())
    if norm > largest:
        for grad in grads:
            grad.mul_(largest / norm)
    return norm
