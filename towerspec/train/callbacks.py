"""What happens around the epochs: checkpoints to resume from, the best weights, and a line for people."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import Callback

from towerspec.emit.torchscript import tensors
from towerspec.train.files import write_weights, write_whole

BEST = "best.safetensors"


class Checkpoints(Callback):
    """Keeps one checkpoint, the newest, written whole: after each epoch, and after every so many steps."""

    def __init__(self, path: Path, every: int) -> None:
        self.path, self.every = path, every

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step % self.every == 0 and batch_idx + 1 < trainer.num_training_batches:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        # All processes take part in gathering the state; the first one writes it.
        state = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        if trainer.is_global_zero:
            write_whole(self.path, lambda fresh: torch.save(state, fresh))
        trainer.strategy.barrier("checkpoint")


class Best(Callback):
    """Keeps the weights of the best epoch; `history` holds every epoch's metrics, for the run's record."""

    def __init__(self, folder: Path, monitor: str, largest: bool) -> None:
        self.path, self.monitor, self.sign = folder / BEST, monitor, -1.0 if largest else 1.0
        self.best: float | None = None
        self.history: list[dict[str, float]] = []

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        metrics = {name: float(x) for name, x in trainer.callback_metrics.items() if name.startswith("valid/")}
        self.history.append({"epoch": trainer.current_epoch + 1, **module.epoch_means(), **metrics})
        now = metrics.get(self.monitor)
        if now is None or self.best is None or self.sign * now < self.sign * self.best:
            self.best = now if now is not None else self.best
            if trainer.is_global_zero:
                write_weights(self.path, tensors(module.module))

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are kept, counted from 1."""
        known = [h for h in self.history if self.monitor in h]
        return int(min(known, key=lambda h: self.sign * h[self.monitor])["epoch"] if known else len(self.history))

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.history = state_dict["best"], list(state_dict["history"])


class Lines(Callback):
    """A line an epoch, where there is no terminal for a progress bar."""

    def __init__(self, best: Best, say: Any) -> None:
        self.best, self.say, self.start = best, say, 0.0

    def on_train_start(self, trainer: L.Trainer, module: Any) -> None:
        self.start = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, module: Any) -> None:
        if not trainer.is_global_zero:
            return
        shown = {"train/loss": "train loss", "valid/loss": "validation loss", "valid/auc": "validation AUC"}
        metrics = self.best.history[-1]
        known = [f"{word} {metrics[name]:.4f}" for name, word in shown.items() if name in metrics]
        took, self.start = time.monotonic() - self.start, time.monotonic()
        self.say(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}: {', '.join(known)} ({took:.1f} s)")
