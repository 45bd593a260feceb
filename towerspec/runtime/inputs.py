"""A surface's inputs at the boundary: from what a caller has to the tensors that the graph takes, or a clear error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from towerspec.diagnostics import Diagnostic, SpecError, did_you_mean, listing
from towerspec.ids import MISSING
from towerspec.runtime.entries import Input, read_entries
from towerspec.runtime.samples import COUNTS
from towerspec.runtime.values import Unfit, converted, measured
from towerspec.runtime.vocabulary import Vocabulary

NO_VOCABULARIES: Mapping[str, Vocabulary] = {}


class Boundary:
    """Checks a call's inputs, and brings them into call order; several threads may use one at once."""

    def __init__(
        self,
        surface: str,
        entries: object,
        vocabularies: Mapping[str, Vocabulary] = NO_VOCABULARIES,
        device: str | torch.device = "cpu",
    ) -> None:
        """From a manifest's list of inputs; raises `SpecError` (T701) where that is malformed."""
        self.surface, self.device = surface, torch.device(device)
        self.inputs: Mapping[str, Input] = {input.name: input for input in read_entries(surface, entries)}
        self.tables: Mapping[str, Vocabulary] = {  # by input: what its raw ids are looked up in
            input.name: table for input in self.inputs.values() if (table := _table(input, vocabularies)) is not None
        }

    def prepare(self, given: Mapping[str, Any], strict: bool = False) -> list[Tensor]:
        """The tensors in call order from inputs by name, as `tensors` reads them, with raw ids as their tables' rows.

        With `strict`, an id without a row of its own and a number that is not finite are errors; without it they take
        the meaning that the spec gives them.

        Raises:
            SpecError: as `tensors`, or, if strict, an id is out of range or a number not finite (T707).
        """
        ready = self.tensors(given)
        for name, x in ready.items():
            input = self.inputs[name]
            if name in self.tables:
                ready[name] = x = self.tables[name].look_up(x)
            if strict:
                self._check_values(input, x)
        return list(ready.values())

    def tensors(self, given: Mapping[str, Any]) -> dict[str, Tensor]:
        """The inputs by name in call order, as int64 and float32; docs/inputs.md says what a value may be.

        Raises:
            SpecError: an input is missing (T702), unknown (T703), of the wrong type (T704) or shape (T705), or the rows
                don't fit together (T706).
        """
        if not isinstance(given, Mapping):
            raise self._fail("T704", "the inputs are not rows by name")
        self._check_names(given)
        asked = [input for name, input in self.inputs.items() if name in given]
        found = {input.name: self._fit(measured, input, given[input.name], self.device) for input in asked}
        rows = self._check_rows(found)
        ready = {input.name: self._fit(converted, input, found[input.name]) for input in asked}
        if len(rows) == 2:
            self._check_counts(rows["R"], rows["N"], ready.get(COUNTS))
        return ready

    def _fail(self, code: str, message: str, *notes: str, help: str | None = None) -> SpecError:
        return SpecError(Diagnostic(code, f"surface `{self.surface}`: {message}", notes=notes, help=help))

    def _fit(self, change: Any, input: Input, *value: Any) -> Tensor:
        try:
            made: Tensor = change(input, *value)
            return made
        except Unfit as unfit:
            takes = input.shape if unfit.code == "T705" else input.takes
            message = f"the input `{input.name}` {unfit.what}"
            raise self._fail(unfit.code, message, f"it takes {takes}", help=input.wanted) from unfit.__cause__
        except (RuntimeError, MemoryError, TypeError, ValueError) as error:  # of torch, or of what holds the value
            raise self._fail(
                "T704", f"the input `{input.name}` can't be read", f"it takes {input.takes}", help=input.wanted
            ) from error

    def _check_names(self, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in self.inputs:
                help = did_you_mean(str(name), self.inputs)
                raise self._fail("T703", f"there is no input `{name}`", self._known(), help=help)
        for name, input in self.inputs.items():
            if not input.optional and name not in given:
                raise self._fail("T702", f"the input `{name}` is missing", self._known())

    def _known(self) -> str:
        return f"its inputs are {listing(list(self.inputs))}"

    def _check_rows(self, tensors: Mapping[str, Tensor]) -> dict[str, int]:
        """How many rows each level has, by its axis."""
        first: dict[str, tuple[str, int]] = {}
        for name, x in tensors.items():
            input, rows = self.inputs[name], x.shape[0]
            other, count = first.setdefault(input.rows, (name, rows))
            if rows != count:
                raise self._fail(
                    "T706",
                    f"the input `{name}` has {_rows(rows)}, and `{other}` has {_rows(count)}",
                    f"inputs of one level have one row for each {input.level}",
                )
        return {axis: count for axis, (_, count) in first.items()}

    def _check_counts(self, r: int, n: int, counts: Tensor | None) -> None:
        if r == 0 and n > 0:
            raise self._fail("T706", f"there are {n} candidates and no request")
        if counts is None:
            if r in (1, n):
                return
            raise self._fail(
                "T706",
                f"{r} requests have {n} candidates, and nothing says which belong to which",
                help=f"give `{COUNTS}`, the number of candidates of each request",
            )
        held = counts.tolist()  # Python's numbers, whose sum doesn't wrap around
        for row, count in enumerate(held):
            if not 0 <= count <= n:
                raise self._fail("T706", f"`{COUNTS}` holds {count} in row {row}, and there are {n} candidates")
        if sum(held) != n:
            raise self._fail("T706", f"`{COUNTS}` adds up to {sum(held)}, and there are {n} candidates")

    def _check_values(self, input: Input, x: Tensor) -> None:
        if not input.whole:
            bad = (~torch.isfinite(x)).nonzero()
            if len(bad):
                raise self._fail("T707", f"the input `{input.name}` is not finite in row {int(bad[0, 0])}")
        elif input.range is not None:
            low, high = input.range
            bad = ((x < (MISSING if input.listed else low)) | (x > high)).nonzero()
            if len(bad):
                raise self._fail(
                    "T707",
                    f"the input `{input.name}` has an id out of range in row {int(bad[0, 0])}",
                    f"ids go from {low} to {high}",
                )


def _table(input: Input, vocabularies: Mapping[str, Vocabulary]) -> Vocabulary | None:
    if input.by_value:
        return Vocabulary(list(input.values), len(input.values))
    return vocabularies.get(input.vocabulary or "")


def _rows(count: int) -> str:
    return f"{count} row{'s' if count != 1 else ''}"
