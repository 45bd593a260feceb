"""The generated module as Lightning trains it: one step, one validation, and what to do with the gradients between."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import lightning.pytorch as L
import torch
from torch import Tensor, nn

from towerspec.check.model import Model
from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.emit.names import path_of
from towerspec.layers.blocks import Train
from towerspec.train.auc import auc
from towerspec.train.balancing import Balancer
from towerspec.train.batch import Batch
from towerspec.train.distributed import join_over_processes, sum_over_processes, world
from towerspec.train.losses import Losses
from towerspec.train.optimizers import clip, make_optimizer, schedule
from towerspec.train.sharing import run


class Log(Protocol):
    """What training needs of a log of impressions; `towerspec.train.data` has one for Parquet and CSV files."""

    @property
    def counts(self) -> dict[str, int]: ...

    def rows(self) -> int: ...

    def fit(self) -> Any: ...

    def with_vocabularies(self, vocabularies: Mapping[str, Sequence[Any]]) -> Log: ...

    def batches(
        self,
        size: int,
        seed: int | None = None,
        weights: Mapping[str, float] | None = None,
        rank: int = 0,
        world: int = 1,
        together: bool = False,
    ) -> Iterator[Batch]: ...


@dataclass
class Epochs:
    """The training batches, epoch after epoch; which epoch and which batch follow from the trainer's step alone.

    So a training that goes on from a checkpoint goes on at the very batch that it stopped at. Where rows are drawn by
    weight, a pass over the log may be a little shorter or longer than `steps`; then another begins, or it ends early.
    """

    log: Log
    size: int
    steps: int
    seed: int
    weights: Mapping[str, float] | None
    together: bool  # whether rows of one request stay together
    trainer: L.Trainer | None = None

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        assert self.trainer is not None
        epoch, done = divmod(self.trainer.global_step, self.steps)
        return itertools.islice(self._passes(epoch), done, self.steps)

    def _passes(self, epoch: int) -> Iterator[Batch]:
        rank, count = world()
        for again in itertools.count():
            seed = mixed(self.seed, epoch, again)
            yield from self.log.batches(self.size, seed, self.weights, rank, count, self.together)


@dataclass
class Validation:
    """The validation batches of this process, in the order of the file."""

    log: Log
    size: int

    def __iter__(self) -> Iterator[Batch]:
        rank, count = world()
        yield from self.log.batches(self.size, None, None, rank, count)


def mixed(seed: int, *parts: int) -> int:
    """A seed of its own for each combination of numbers, the same everywhere."""
    for part in parts:
        seed = (seed * 6364136223846793005 + part + 1442695040888963407) % 2**63
    return seed


@dataclass
class Tally:
    """Sums over validation rows: for each surface and task the loss, how many rows, and the weights."""

    losses: Tensor
    rows: Tensor
    weights: Tensor
    scores: dict[str, list[Tensor]] = field(default_factory=dict)  # by task: surface, logit and label of each row


class Training(L.LightningModule):
    """A generated module in training: routing is its own, the rest is here."""

    def __init__(self, module: nn.Module, model: Model, balancer: Balancer, options: Train, steps: int) -> None:
        super().__init__()
        self.module, self.balancer = module, balancer
        self.losses, self.options, self.steps = Losses(model), options, steps
        self.surfaces = tuple(model.surfaces)
        # A step whose rows reach no trained parameter still has a gradient to go back along, in every process.
        self.anchor = nn.Parameter(torch.zeros(()))
        self.tables: frozenset[str] = frozenset()
        self.seen: dict[str, Tensor] = {}  # by task and for the loss: the sum of this epoch's means, and how many

    # ---- a step --------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        # Dropout follows from the step, so that nothing of it needs to be saved.
        torch.manual_seed(mixed(self.options.seed, self.trainer.global_step, world()[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The loss of a batch: each task's mean over the rows of all processes, then balanced."""
        means = self.means(batch)
        loss: Tensor = 0.0 * self.anchor
        if means:  # a batch may have no label at all
            loss = loss + self.balancer(means)
        if not torch.isfinite(loss):
            raise diverged(self.trainer.global_step, {task: float(x.detach()) for task, x in means.items()})
        self.log("step/loss", loss.detach(), on_step=True, prog_bar=True, batch_size=len(batch))
        for name, value in {**means, "loss": loss}.items():
            seen = self.seen.setdefault(name, torch.zeros(2, dtype=torch.float64))
            seen += torch.stack([value.detach().double().cpu(), torch.ones((), dtype=torch.float64)])
        return loss

    def means(self, batch: Batch) -> dict[str, Tensor]:
        """Each task's mean loss; of several processes, this one's share of it times their number.

        They average their gradients, and so get that of the mean over all their rows, however the rows are spread.
        """
        terms = self.losses(run(self.module, batch), batch)
        tasks = self.losses.tasks
        counts = [float(terms[task].rows.numel()) if task in terms else 0.0 for task in tasks]
        total = sum_over_processes(torch.tensor(counts, device=batch.surface.device))
        none = torch.zeros((), device=batch.surface.device)
        share = world()[1] / total.clamp(min=1)
        found = {task: (terms[task].total if task in terms else none) * share[i] for i, task in enumerate(tasks)}
        return {task: mean for i, (task, mean) in enumerate(found.items()) if total[i] > 0}

    def on_train_epoch_start(self) -> None:
        self.seen = {}

    def epoch_means(self) -> dict[str, float]:
        """The means over this epoch's steps of the loss and of each task's, the same in all processes.

        Raises:
            SpecError: no step had a label (T823).
        """
        if self.seen.keys() <= {"loss"}:
            raise unlabelled("train on")
        found = {name: sum_over_processes(self.seen[name].to(self.device)).tolist() for name in sorted(self.seen)}
        return {f"train/{name}": total / steps for name, (total, steps) in found.items()}

    def on_train_epoch_end(self) -> None:
        self.log_dict(self.epoch_means())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["seen"] = {name: sum_over_processes(x.to(self.device)).cpu() for name, x in self.seen.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # What all processes have seen goes on in the first.
        self.seen = checkpoint["seen"] if world()[0] == 0 else {k: 0 * x for k, x in checkpoint["seen"].items()}

    def configure_optimizers(self) -> Any:
        found = {path_of(name.removeprefix("module.")): p for name, p in self.named_parameters()}
        trained = {path: p for path, p in found.items() if p.requires_grad and p is not self.anchor}
        tables = [p for path, p in trained.items() if path in self.tables]
        dense = [p for path, p in trained.items() if path not in self.tables]
        optimizer = make_optimizer(self.options, dense, tables)
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule(self.options, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        if self.options.clip:
            clip((p for g in optimizer.param_groups for p in g["params"]), self.options.clip)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        def there(columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: x.to(device, non_blocking=True) for name, x in columns.items()}

        request = batch.request.to(device) if batch.request is not None else None
        return Batch(there(batch.features), batch.surface.to(device), there(batch.labels), request)

    # ---- validation ----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        shape = (len(self.surfaces), len(self.losses.tasks))
        self.tally = Tally(*(torch.zeros(3, *shape, dtype=torch.float64)))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        out = run(self.module, batch)
        terms = self.losses(out, batch)
        for task, term in terms.items():
            if self.options.monitor == "auc" and self.losses.kinds[task].loss == "binary_cross_entropy":
                z, y = out[f"{task}.logit"][term.rows], batch.labels[task][term.rows]
                rows = torch.stack([batch.surface[term.rows].double(), z.double(), y.double()]).cpu()
                self.tally.scores.setdefault(task, []).append(rows)
            column, surface = self.losses.tasks.index(task), batch.surface[term.rows].cpu()
            ones = torch.ones(len(surface), dtype=torch.float64)
            for sums, values in (
                (self.tally.losses, term.values.double().cpu()),
                (self.tally.rows, ones),
                (self.tally.weights, term.weights.double().cpu()),
            ):
                sums[:, column].index_add_(0, surface, values)

    def on_validation_epoch_end(self) -> None:
        """Logs the mean of each surface's and task's loss, and `valid/loss`, their mean by the spec's weights."""
        losses, rows, weights = (
            sum_over_processes(x.to(self.device)).cpu()
            for x in (self.tally.losses, self.tally.rows, self.tally.weights)
        )
        there = rows > 0
        if not there.any():
            raise unlabelled("validate on")
        means = losses / rows.clamp(min=1)
        by = weights / rows.clamp(min=1)
        overall = (means * by)[there].sum() / by[there].sum().clamp(min=1e-12)
        if not torch.isfinite(overall):
            found = losses.sum(0)
            raise diverged(self.trainer.global_step, dict(zip(self.losses.tasks, found.tolist(), strict=True)))
        self.log("valid/loss", overall.float(), prog_bar=True, rank_zero_only=False)
        for i, j in there.nonzero().tolist():
            self.log(f"valid/{self.surfaces[i]}/{self.losses.tasks[j]}", means[i, j].float())
        if self.options.monitor == "auc":
            self.log("valid/auc", self._auc(by), prog_bar=True)

    def _auc(self, by: Tensor) -> float:
        """The mean of each surface's and binary task's AUC, by the spec's weights; those of one label are left out."""
        total = weight = 0.0
        defined = False
        for j, task in enumerate(self.losses.tasks):
            if self.losses.kinds[task].loss != "binary_cross_entropy":
                continue
            rows = join_over_processes(torch.cat([torch.zeros(3, 0).double(), *self.tally.scores.get(task, [])], 1).T)
            for i in range(len(self.surfaces)):
                _, z, y = rows[rows[:, 0] == i].T
                found = auc(z, y)
                if found == found:
                    self.log(f"valid/{self.surfaces[i]}/{task}/auc", found)
                    total, weight = total + float(by[i, j]) * found, weight + float(by[i, j])
                    defined = True
        if not defined:
            raise SpecError(
                Diagnostic(
                    "T823",
                    "the validation rows have no surface with both labels of a binary task, so that their AUC is "
                    "undefined",
                    help="give more validation rows, or set `monitor: loss`",
                )
            )
        return total / max(weight, 1e-12)


def unlabelled(use: str) -> SpecError:
    """The error of rows without a single label."""
    return SpecError(
        Diagnostic(
            "T823",
            f"no row to {use} has a label",
            help="see what the log holds with `towerspec data check`",
        )
    )


def diverged(step: int, means: Mapping[str, float]) -> SpecError:
    """The error of a loss that is no number any more."""
    bad = [task for task, mean in means.items() if mean != mean or abs(mean) == float("inf")]
    named = ", ".join(f"`{task}`" for task in bad) or "all tasks"
    return SpecError(
        Diagnostic(
            "T824",
            f"training diverged at step {step}: the loss of {named} is not finite",
            help="lower `learning_rate` or `embedding_learning_rate`, or `clip` the gradients at a smaller norm",
        )
    )
