"""`towerspec train`: from a spec and a log of impressions to a run folder."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from towerspec.check import Checked
from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.emit.torchscript import tensors
from towerspec.emit.vocabularies import fitted_tables
from towerspec.layers.blocks import Train
from towerspec.train.balancing import BALANCERS
from towerspec.train.callbacks import Best, Checkpoints, Lines
from towerspec.train.carry import carried_vocabularies, carry, freeze, statistics_to_fit
from towerspec.train.folder import Made, Setup, claim, finish, prepare
from towerspec.train.lightning import Epochs, Log, Training, Validation
from towerspec.train.losses import Losses
from towerspec.train.module import shared_layer, shared_module, sparse_gradients, tables
from towerspec.train.run import Run

SETUP = Setup()
SPARSE_FROM = 50_000  # rows of a table from which on gradients of the looked-up rows alone are cheaper


def train(checked: Checked, log: Log, valid: Log | None, out: Path, options: Train, setup: Setup = SETUP) -> Run:
    """Trains a checked spec on a log and leaves a run in the folder `out`.

    With validation rows it keeps the weights of the best epoch, and stops when `options.patience` epochs brought no
    better one. The same inputs give the same weights, bit for bit, whether or not the training was interrupted.

    Raises:
        SpecError: the spec has errors, `out` holds a run already (T821) or another one (T822), there is no row, or
            none with a label, to train or validate on (T823), the loss is not finite any more (T824), or a part to
            freeze is unknown (T825).
    """
    checked.sound()
    run = Run(out)
    if primary():
        claim(run, checked, options, setup)
    if setup.resume and run.finished:  # with calibrators, perhaps, that were fitted since
        return run
    steps = _steps(log, valid, options)
    made = _make(checked, log, options, setup)
    if primary():
        prepare(run, checked, options, setup)
    log = log.with_vocabularies(made.vocabularies)
    training = _training(checked, made, options, setup, steps)
    best = Best(run.checkpoints, _monitor(options), options.monitor == "auc")
    weights = sampling_weights(log.counts, options) if options.sampling != "proportional" else None
    together = options.shuffle == "requests"
    checks = Validation(valid.with_vocabularies(made.vocabularies), options.batch * 4) if valid else None
    try:
        with _quiet():
            trainer = _trainer(run, options, setup, best, valid is not None)
            trainer.fit(
                training,
                Epochs(log, options.batch, steps, options.seed, weights, together, trainer),
                checks,
                ckpt_path=str(run.last) if setup.resume and run.last.is_file() else None,
                weights_only=True,
            )
        if trainer.is_global_zero:
            finish(run, checked, made, options, setup, best, trainer.global_step)
    except OSError as error:  # of checkpoints and logs; those of the log's files are diagnostics already
        raise run.unwritable(error) from error
    return run


def primary() -> bool:
    """Whether this process is the first of a training; the others are started later, or by another program."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def _steps(log: Log, valid: Log | None, options: Train) -> int:
    """How many steps an epoch has; raises `SpecError` (T823) where there is nothing to train or to validate on."""
    for rows, use, help in (
        (log, "train on", "give more `--data`, or move `--valid-from`"),
        (valid, "validate on", "give other `--valid`, or move `--valid-from`"),
    ):
        if rows is not None and not rows.rows():
            raise SpecError(Diagnostic("T823", f"the log has no row to {use}", help=help))
    return math.ceil(log.rows() / options.batch)


# ---- the model ---------------------------------------------------------------------------------


def _make(checked: Checked, log: Log, options: Train, setup: Setup) -> Made:
    """The generated module with what an earlier run learned, and the rest fitted to the log."""
    model, graph = checked.sound()
    module = shared_module(checked, options.seed)
    carried = carry(module, checked, setup.init_from) if setup.init_from else None
    frozen = freeze(module, graph, options.freeze, carried)
    fitted = log.fit()
    statistics = statistics_to_fit(fitted.statistics, carried)
    with torch.no_grad():
        for path, x in tensors(module).items():
            if path in statistics:
                x.copy_(statistics[path])
    vocabularies = fitted.vocabularies
    if setup.init_from and carried:
        vocabularies, carried = carried_vocabularies(setup.init_from, carried, vocabularies, fitted_tables(model))
        for line in carried.lines() if primary() else ():
            setup.say(line)
    return Made(module, vocabularies, carried, frozen)


def _training(checked: Checked, made: Made, options: Train, setup: Setup, steps: int) -> Training:
    """The module as Lightning trains it, in so many steps an epoch."""
    model, graph = checked.sound()
    kinds = {task: head.loss for task, head in Losses(model).kinds.items()}
    parameters = {path: x for path, x in tensors(made.module).items() if x.requires_grad}
    balancer = BALANCERS[options.balance](
        list(kinds), kinds, [parameters[p] for p in shared_layer(graph) if p in parameters]
    )
    training = Training(made.module, model, balancer, options, steps * options.epochs)
    training.tables = tables(graph)
    sparse_gradients(made.module, _sparse(training.tables, parameters, options, setup))
    return training


def _sparse(paths: Iterable[str], parameters: Mapping[str, Tensor], options: Train, setup: Setup) -> list[str]:
    """The tables with gradients of their looked-up rows alone: the large ones, under an optimiser that takes them.

    Several processes exchange dense gradients: theirs have other rows each.
    """
    if setup.processes * setup.nodes > 1 or options.embedding_optimizer == "adam":
        return []
    return [path for path in paths if path in parameters and len(parameters[path]) >= SPARSE_FROM]


def sampling_weights(counts: Mapping[str, int], options: Train) -> dict[str, float] | None:
    """How often each surface's rows are drawn, so that as many rows are drawn as there are; none where each is once.

    A surface of `n` rows gets a share of them in proportion to `n^(1/T)`: `T = 1` is as in the data, and under
    `balanced`, where `T` is infinite, each surface gets the same. Temperature sampling as in Arivazhagan et al. 2019,
    arXiv:1907.05019, section 4.2.

    >>> sampling_weights({"home": 900, "search": 100}, Train(sampling="balanced"))
    {'home': 0.5555555555555556, 'search': 5.0}
    """
    if options.sampling == "proportional":
        return None
    power = 0.0 if options.sampling == "balanced" else 1 / options.temperature
    shares = {name: n**power if n else 0.0 for name, n in counts.items()}
    scale = sum(counts.values()) / sum(shares.values())
    return {name: shares[name] * scale / n if n else 0.0 for name, n in counts.items()}


def _monitor(options: Train) -> str:
    return f"valid/{options.monitor}"


# ---- the trainer -------------------------------------------------------------------------------


def _trainer(run: Run, options: Train, setup: Setup, best: Best, validates: bool) -> L.Trainer:
    callbacks: list[Callback] = [best]
    if validates:
        mode = "max" if options.monitor == "auc" else "min"
        callbacks.append(EarlyStopping(_monitor(options), patience=options.patience, mode=mode))
    callbacks.append(TQDMProgressBar() if setup.bar else Lines(best, setup.say))
    callbacks.append(Checkpoints(run.last, setup.checkpoint_every))  # the last, so that it holds the others
    several = setup.processes * setup.nodes > 1
    logger: Logger = (
        TensorBoardLogger(run.folder, name="logs", version="")
        if setup.tensorboard
        else CSVLogger(run.folder, name="logs", version=_next(run.logs))
    )
    return L.Trainer(
        accelerator="auto",
        devices=setup.processes,
        num_nodes=setup.nodes,
        strategy=DDPStrategy(find_unused_parameters=True) if several else "auto",
        precision="bf16-mixed" if options.precision == "bf16" else "32-true",
        max_epochs=options.epochs,
        callbacks=callbacks,
        logger=logger,
        log_every_n_steps=20,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=setup.bar,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )


def _next(logs: Path) -> str:
    """A folder of its own for each time that a training was taken up."""
    taken = [int(p.name) for p in logs.glob("*") if p.name.isdigit()] if logs.is_dir() else []
    return str(max(taken, default=-1) + 1)


class _quiet(warnings.catch_warnings):
    """Lightning's advice is for those who write its modules; ours are generated."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        for name in ("lightning.pytorch", "lightning.fabric"):
            logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", message=r".*(isinstance\(treespec|lr_scheduler\.step).*")
        return entered
