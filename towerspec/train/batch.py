"""What the reader of a log hands to training, calibration and evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Some impressions of a log, ready for the generated model; `B` rows of any mix of surfaces.

    A request-level feature has a row for each impression too: in training each row is a request with one candidate.
    """

    features: Mapping[str, Tensor]  # by name, as `forward(features, surface)` takes them; own features of every surface
    surface: Tensor  # [B] int64, an index into the model's surfaces
    labels: Mapping[str, Tensor]  # by task, [B] float32; NaN where the surface or the row has none
    request: Tensor | None = None  # [B] int64, equal for the candidates of one request; for grouped metrics

    def __len__(self) -> int:
        return int(self.surface.shape[0])
