"""A surface's inputs at the boundary: from what a caller has to the tensors that the graph takes, or a clear error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from towerspec.diagnostics import Diagnostic, SpecError, did_you_mean, listing
from towerspec.runtime.samples import COUNTS
from towerspec.runtime.vocabulary import Vocabulary, signed, text_id

PADDING = -1
NO_VOCABULARIES: Mapping[str, Vocabulary] = {}
_INTEGERS = {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8}


def prepare(
    surface: str,
    entries: Sequence[Mapping[str, Any]],
    inputs: Mapping[str, Any],
    strict: bool,
    vocabularies: Mapping[str, Vocabulary] = NO_VOCABULARIES,
) -> list[Tensor]:
    """The tensors in call order from inputs by name.

    Texts map to ids by the manifest's values, and raw ids by their table's vocabulary; lists of lists are cut to
    their newest values and padded, and numbers become float32. With `strict`, an id without a row of its own and a
    number that is not finite are errors; without it they take the meaning that the spec gives them.

    Raises:
        SpecError: an input is missing (T702), unknown (T703), of the wrong type (T704) or shape (T705), the rows
            don't fit together (T706), or, if strict, an id is out of range or a number not finite (T707).
    """
    _check_names(surface, entries, inputs)
    tensors = {e["name"]: _tensor(surface, e, inputs[e["name"]]) for e in entries if e["name"] in inputs}
    _check_rows(surface, entries, tensors)
    for entry in entries:
        if entry["name"] in tensors and entry.get("vocabulary") in vocabularies:
            tensors[entry["name"]] = vocabularies[entry["vocabulary"]].look_up(tensors[entry["name"]])
    if strict:
        for entry in entries:
            if entry["name"] in tensors:
                _check_values(surface, entry, tensors[entry["name"]])
    return [tensors[e["name"]] for e in entries if e["name"] in tensors]


def _fail(code: str, surface: str, message: str, *notes: str, help: str | None = None) -> SpecError:
    return SpecError(Diagnostic(code, f"surface `{surface}`: {message}", notes=notes, help=help))


def _check_names(surface: str, entries: Sequence[Mapping[str, Any]], inputs: Mapping[str, Any]) -> None:
    known = [e["name"] for e in entries]
    extra = [name for name in inputs if name not in known]
    if extra:
        raise _fail(
            "T703",
            surface,
            f"there is no input `{extra[0]}`",
            f"its inputs are {listing(known)}",
            help=did_you_mean(extra[0], known),
        )
    missing = [e["name"] for e in entries if e["name"] not in inputs and not e.get("optional")]
    if missing:
        raise _fail("T702", surface, f"the input `{missing[0]}` is missing", f"its inputs are {listing(known)}")


def _tensor(surface: str, entry: Mapping[str, Any], value: Any) -> Tensor:
    name, whole = entry["name"], entry["dtype"] == "int64"
    value = _listed(entry, value)
    try:
        x = value if isinstance(value, Tensor) else torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _fail(
            "T704",
            surface,
            f"the input `{name}` can't become a tensor",
            f"it takes {'whole numbers' if whole else 'numbers'}",
            help=f"give {_wanted(entry)}",
        ) from error
    if x.dtype == torch.uint64 and _takes_any(entry):
        x = x.view(torch.int64)
    if (whole and x.dtype not in _INTEGERS and x.numel()) or x.dtype == torch.bool or x.is_complex():
        raise _fail(
            "T704",
            surface,
            f"the input `{name}` has the type {str(x.dtype).removeprefix('torch.')}",
            f"it takes {'whole numbers' if whole else 'numbers'}",
            help=f"give {_wanted(entry)}",
        )
    if list(x.shape) == [0]:  # no rows have the right width, whatever it is
        x = x.reshape(0, *entry["shape"][1:])
    if x.dim() != len(entry["shape"]) or list(x.shape[1:]) != entry["shape"][1:]:
        raise _fail(
            "T705",
            surface,
            f"the input `{name}` has the shape {list(x.shape)}",
            f"it takes [{', '.join(map(str, entry['shape']))}]",
            help=f"give {_wanted(entry)}",
        )
    return x.to(torch.int64 if whole else torch.float32).contiguous()


def _wanted(entry: Mapping[str, Any]) -> str:
    shape = ", ".join(map(str, entry["shape"]))
    rows = {"R": "one row a request", "N": "one row a candidate"}[entry["shape"][0]]
    return f"{'int64' if entry['dtype'] == 'int64' else 'float32'} of shape [{shape}], {rows}"


def _listed(entry: Mapping[str, Any], value: Any) -> Any:
    """Texts as ids and ragged lists as padded ones; tensors and number arrays pass as they are."""
    if isinstance(value, Tensor) or entry["kind"] not in ("category", "sequence", "bag"):
        return value
    kind = getattr(getattr(value, "dtype", None), "kind", "O" if isinstance(value, (list, tuple)) else "")
    if kind not in ("O", "U", "S", "T"):
        return value
    ids = {text: i for i, text in enumerate(entry.get("values", ()))}
    rows = value.tolist() if hasattr(value, "tolist") else list(value)
    if len(entry["shape"]) == 1:
        return [_id(entry, ids, item) for item in rows]
    length = entry["shape"][1]
    padded = []
    for row in rows:
        found = [_id(entry, ids, item) for item in (row if row is not None else ())][-length:]
        padded.append(found + [PADDING] * (length - len(found)))
    return torch.tensor(padded, dtype=torch.int64).reshape(len(padded), length)


def _id(entry: Mapping[str, Any], ids: Mapping[str, int], item: Any) -> Any:
    if item is None:
        return PADDING
    if _takes_any(entry) and isinstance(item, (str, bytes, int)):
        return signed(item) if isinstance(item, int) else text_id(item)
    if isinstance(item, (str, bytes)) and ids:
        return ids.get(item.decode() if isinstance(item, bytes) else item, len(ids))
    return item


def _takes_any(entry: Mapping[str, Any]) -> bool:
    """Whether an input takes any 64-bit id, and any text."""
    return entry.get("ids") == "hash" or "vocabulary" in entry


def _check_rows(surface: str, entries: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> None:
    rows: dict[str, tuple[str, int]] = {}
    for entry in entries:
        name = entry["name"]
        if name not in tensors:
            continue
        first, count = rows.setdefault(entry["shape"][0], (name, tensors[name].shape[0]))
        if tensors[name].shape[0] != count:
            raise _fail(
                "T706",
                surface,
                f"the input `{name}` has {_rows(tensors[name].shape[0])}, and `{first}` has {_rows(count)}",
                f"inputs of one level have one row for each {entry['level']}",
            )
    if "R" not in rows or "N" not in rows:
        return
    r, n = rows["R"][1], rows["N"][1]
    counts = tensors.get(COUNTS)
    if r == 0 and n > 0:
        raise _fail("T706", surface, f"there are {n} candidates and no request")
    if counts is None and r not in (1, n):
        raise _fail(
            "T706",
            surface,
            f"{r} requests have {n} candidates, and nothing says which belong to which",
            help=f"give `{COUNTS}`, the number of candidates of each request",
        )
    if counts is not None and r != 1 and (bool((counts < 0).any()) or int(counts.sum()) != n):
        raise _fail("T706", surface, f"`{COUNTS}` adds up to {int(counts.sum())}, and there are {n} candidates")


def _rows(count: int) -> str:
    return f"{count} row{'s' if count != 1 else ''}"


def _check_values(surface: str, entry: Mapping[str, Any], x: Tensor) -> None:
    if x.is_floating_point():
        bad = (~torch.isfinite(x)).nonzero()
        if len(bad):
            raise _fail("T707", surface, f"the input `{entry['name']}` is not finite in row {int(bad[0, 0])}")
    elif "range" in entry:
        low, high = entry["range"]
        allowed = low if entry["kind"] == "category" else PADDING
        bad = ((x < allowed) | (x > high)).nonzero()
        if len(bad):
            raise _fail(
                "T707",
                surface,
                f"the input `{entry['name']}` has an id out of range in row {int(bad[0, 0])}",
                f"ids go from {low} to {high}",
            )
