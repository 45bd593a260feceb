"""`towerspec train`: from a spec and a log of impressions to a run folder."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from towerspec import __version__
from towerspec.check import Checked
from towerspec.diagnostics import Diagnostic, SpecError
from towerspec.layers.blocks import Train
from towerspec.syntax.files import sources
from towerspec.train.balancing import BALANCERS
from towerspec.train.callbacks import BEST, LAST, Best, Checkpoints, Lines
from towerspec.train.files import write_text, write_weights
from towerspec.train.lightning import Epochs, Log, Training, Validation
from towerspec.train.losses import Losses
from towerspec.train.module import build_module, shared_layer, sparse_gradients, tables
from towerspec.train.run import FORMAT, Run

Say = Callable[[str], None]
PLAN = "plan.json"
SPARSE_FROM = 50_000  # rows of a table from which on gradients of the looked-up rows alone are cheaper


@dataclass(frozen=True)
class Setup:
    """How a training runs, apart from what it computes."""

    resume: bool = False
    processes: int = 1
    nodes: int = 1
    checkpoint_every: int = 1000  # steps
    tensorboard: bool = False
    bar: bool = False
    say: Say = lambda line: None
    data: Mapping[str, Any] = field(default_factory=dict)  # for the record: what the log was read from


def train(checked: Checked, log: Log, valid: Log | None, out: Path, options: Train, setup: Setup = Setup()) -> Run:
    """Trains a checked spec on a log and leaves a run in the folder `out`.

    With validation rows it keeps the weights of the best epoch, and stops when `options.patience` epochs brought no
    better one. The same inputs give the same weights, bit for bit, whether or not the training was interrupted.

    Raises:
        SpecError: the spec has errors, `out` holds a run already (T821) or another one (T822), the log has no
            row (T823), or the loss is not finite any more (T824).
    """
    model, graph = checked.sound()
    run = Run(out)
    if _primary():
        _prepare(run, checked, options, setup)
    steps = math.ceil(log.rows() / options.batch)
    if not steps:
        raise SpecError(
            Diagnostic("T823", "the log has no row to train on", help="give more `--data`, or move `--valid-from`")
        )
    fitted = log.fit()
    log = log.with_vocabularies(fitted.vocabularies)
    module = _module(checked, options, fitted.statistics)
    kinds = {task: head.loss for task, head in Losses(model).kinds.items()}
    parameters = dict(module.named_parameters())
    balancer = BALANCERS[options.balance](list(kinds), kinds, [parameters[path] for path in shared_layer(graph)])
    training = Training(module, model, balancer, options, steps * options.epochs)
    training.tables = tables(graph)
    sparse_gradients(module, _sparse(training.tables, parameters, options, setup))
    best = Best(run.checkpoints, _monitor(options), options.monitor == "auc")
    last = run.checkpoints / LAST
    with _quiet():
        trainer = _trainer(run, options, setup, best, valid is not None)
        epochs = Epochs(
            log,
            options.batch,
            steps,
            options.seed,
            sampling_weights(log.counts, options) if options.sampling != "proportional" else None,
            trainer,
        )
        trainer.fit(
            training,
            epochs,
            Validation(valid.with_vocabularies(fitted.vocabularies), options.batch * 4) if valid else None,
            ckpt_path=str(last) if setup.resume and last.is_file() else None,
            weights_only=True,
        )
    if trainer.is_global_zero:
        _finish(run, checked, fitted.vocabularies, options, setup, best, trainer)
    return run


def _primary() -> bool:
    """Whether this process is the first of a training; the others are started later, or by another program."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


# ---- the model ---------------------------------------------------------------------------------


def _module(checked: Checked, options: Train, statistics: Mapping[str, Tensor]) -> nn.Module:
    """The generated module with the statistics that the log was fitted to."""
    module = build_module(checked, options.seed)
    with torch.no_grad():
        for path, buffer in module.named_buffers():
            if path in statistics:
                buffer.copy_(statistics[path])
    return module


def _sparse(paths: Iterable[str], parameters: Mapping[str, Tensor], options: Train, setup: Setup) -> list[str]:
    """The tables with gradients of their looked-up rows alone: the large ones, under an optimiser that takes them.

    Several processes exchange dense gradients: theirs have other rows each.
    """
    if setup.processes * setup.nodes > 1 or options.embedding_optimizer == "adam":
        return []
    return [path for path in paths if parameters[path].requires_grad and len(parameters[path]) >= SPARSE_FROM]


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
    callbacks.append(Checkpoints(run.checkpoints, setup.checkpoint_every))  # the last, so that it holds the others
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


# ---- the folder --------------------------------------------------------------------------------


def _plan(checked: Checked, options: Train, setup: Setup) -> dict[str, Any]:
    """What a training that goes on must have in common with the one that began."""
    assert checked.model is not None
    return {"spec": checked.model.text, "options": options.model_dump(mode="json"), "data": dict(setup.data)}


def _prepare(run: Run, checked: Checked, options: Train, setup: Setup) -> None:
    """Makes the folder, or finds the training there that is to go on."""
    assert checked.model is not None
    plan = _plan(checked, options, setup)
    kept = run.checkpoints / PLAN
    if setup.resume and kept.is_file():
        old = json.loads(kept.read_text(encoding="utf-8"))
        # Sums depend on how many threads add them up.
        torch.set_num_threads(old.pop("threads"))
        if old != json.loads(json.dumps(plan)):
            raise SpecError(
                Diagnostic(
                    "T822",
                    f"`{run.folder}` holds the training of another spec, other options or other data",
                    help="give the same ones as before, or another folder",
                )
            )
    elif run.folder.exists() and (not run.folder.is_dir() or any(run.folder.iterdir())):
        raise SpecError(
            Diagnostic(
                "T821",
                f"`{run.folder}` exists already",
                help="give another folder, or `--resume` to go on with the training there",
            )
        )
    try:
        _copy_spec(run, Path(checked.model.path))
        write_text(kept, json.dumps({**plan, "threads": torch.get_num_threads()}, indent=2) + "\n")
    except OSError as error:
        raise SpecError(Diagnostic("T821", f"`{run.folder}` can't be written: {error.strerror}")) from error


def _copy_spec(run: Run, spec: Path) -> None:
    """The spec and all that it includes, as they are now, in the same places to each other."""
    root = spec.resolve().parent
    for path in sources(spec):
        target = run.folder / "spec" / path.resolve().relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _finish(
    run: Run,
    checked: Checked,
    vocabularies: Mapping[str, Any],
    options: Train,
    setup: Setup,
    best: Best,
    trainer: L.Trainer,
) -> None:
    """The best weights, the vocabularies, and last of all the record that makes the folder a run."""
    assert checked.model is not None
    from towerspec.weights import read_safetensors

    write_weights(run.weights, read_safetensors(run.checkpoints / BEST))
    write_text(run.vocabularies, json.dumps(vocabularies) + "\n")
    record = {
        "format": FORMAT,
        "model": checked.model.name,
        "spec": Path(checked.model.path).name,
        "data": dict(setup.data),
        "options": options.model_dump(mode="json"),
        "steps": trainer.global_step,
        "epochs": best.history,
        "best_epoch": best.best_epoch,
        "versions": {"towerspec": __version__, "torch": torch.__version__, "lightning": version("lightning")},
    }
    write_text(run.folder / "run.json", json.dumps(record, indent=2) + "\n")
