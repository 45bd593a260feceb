"""Reading spec files and what they include, within bounds."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field, replace
from pathlib import Path

from towerspec.diagnostics import Diagnostic, Label, Report, Source, Span, SpecError
from towerspec.syntax import tree
from towerspec.syntax.parser import parse

LARGEST = 1024 * 1024  # bytes of a file
LARGEST_ALL = 4 * LARGEST  # and of all files of a spec
MOST_FILES = 256
DEEPEST = 32  # files that include each other in a chain


def read_source(path: str | Path) -> Source:
    """A file as text.

    Raises `SpecError` where it can't be read (T001), is not UTF-8 text (T002) or is too large (T003).
    """
    shown = str(path).replace("\\", "/")
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no path"
        raise SpecError(Diagnostic("T001", f"`{shown}` can't be read: {why}")) from error
    if len(content) > LARGEST:
        raise SpecError(
            Diagnostic(
                "T003", f"`{shown}` is larger than {LARGEST // 1024} KiB", help="split it, and `include` the parts"
            )
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_text(shown, f"byte {error.start} is not UTF-8") from error
    if "\0" in text:
        raise _not_text(shown, f"it holds a zero byte at {text.index(chr(0))}")
    return Source(shown, text)


def _not_text(shown: str, why: str) -> SpecError:
    return SpecError(Diagnostic("T002", f"`{shown}` is not text: {why}", help="save it as UTF-8"))


@dataclass
class _Loader:
    root: Path  # the folder that no include may leave
    report: Report = field(default_factory=Report)
    seen: dict[Path, Source] = field(default_factory=dict)
    chain: list[Path] = field(default_factory=list)
    full: bool = False  # whether a bound on files was reported

    def load(self, path: Path, shown: str) -> tree.Spec:
        """A file's tree, with what it includes in place of the includes."""
        real = path.resolve()
        source = replace(read_source(path), path=shown.replace("\\", "/"))
        self.seen[real] = source
        self.chain.append(real)
        spec, errors = parse(source)
        self.report.extend(errors)
        items: list[tree.Item] = []
        for item in spec.items:
            items += self._include(item, path, shown) if isinstance(item, tree.Include) else [item]
        self.chain.pop()
        return replace(spec, items=tuple(items))

    def _include(self, node: tree.Include, path: Path, shown: str) -> list[tree.Item]:
        text = str(node.path.value)
        span = node.path.span
        target = self._target(text, path, span)
        if target is None:
            return []
        real = target.resolve()
        if real in self.chain:
            names = [self.seen[p].path for p in self.chain[self.chain.index(real) :]]
            self.report.error(
                "T004",
                f"`{text}` includes itself",
                span,
                "leads back to this file",
                notes=[f"the cycle is {' -> '.join([*names, names[0]])}"],
            )
            return []
        if real in self.seen:
            return []  # read already, by another way
        if self._is_full(span):
            return []
        try:
            spec = self.load(target, os.path.join(os.path.dirname(shown), text))
        except SpecError as error:
            for found in error.diagnostics:
                self.report.error(found.code, found.message, span, "included here", help=found.help)
            return []
        if spec.name is not None:
            self.report.error(
                "T008",
                "an included file names a model",
                spec.name.span,
                "not in an included file",
                labels=[Label(span, "included here")],
                help="remove the `model` line; the including file has it",
            )
        return list(spec.items)

    def _is_full(self, span: Span) -> bool:
        """Whether a spec has as many files as it may; the first one too many is reported."""
        if len(self.seen) >= MOST_FILES:
            problem = ("T007", f"the spec includes more than {MOST_FILES} files", "one too many")
        elif len(self.chain) >= DEEPEST:
            problem = ("T007", f"files include each other more than {DEEPEST} deep", "one too deep")
        elif sum(len(source.text) for source in self.seen.values()) >= LARGEST_ALL:
            problem = ("T003", f"the spec's files are larger than {LARGEST_ALL >> 20} MiB together", "one too many")
        else:
            return False
        if not self.full:
            self.report.error(problem[0], problem[1], span, problem[2])
        self.full = True
        return True

    def _target(self, text: str, path: Path, span: Span) -> Path | None:
        strange = next((c for c in text if unicodedata.category(c)[0] == "C" or c in "\u2028\u2029"), None)
        if strange is not None:
            self.report.error(
                "T010",
                f"an included file's name has the character U+{ord(strange):04X}",
                span,
                "not in a name",
                notes=["names with line breaks, control or invisible characters read as what they are not"],
                help="rename the file",
            )
            return None
        try:
            target = path.parent / text
            inside = target.resolve().is_relative_to(self.root)
            exists = target.is_file()
        except (OSError, ValueError, RuntimeError):
            inside, exists = True, False
        if os.path.isabs(text) or "\\" in text or not inside:
            self.report.error(
                "T005",
                f"`{text}` lies outside the spec's folder",
                span,
                "leaves the folder",
                help="give a path relative to this file, with `/`, below the folder of the model's file",
            )
        elif not exists:
            self.report.error(
                "T006",
                f"there is no file `{text}`",
                span,
                "not found",
                notes=["the path is relative to the file that includes"],
            )
        else:
            return target
        return None


def load(path: str | Path, report: Report) -> tree.Spec:
    """A spec and all that it includes, as one tree.

    Raises `SpecError` where the file itself can't be read; all else is in the report.
    """
    path = Path(path)
    spec = _Loader(path.resolve().parent, report).load(path, str(path))
    _named(spec, report)
    return spec


def load_text(text: str, path: str, report: Report) -> tree.Spec:
    """A spec given as text; it can't include files."""
    spec, errors = parse(Source(path, text))
    report.extend(errors)
    for item in spec.items:
        if isinstance(item, tree.Include):
            report.error("T006", "a spec given as text can't include files", item.span, "no folder to look in")
    _named(spec, report)
    return replace(spec, items=tuple(i for i in spec.items if not isinstance(i, tree.Include)))


def _named(spec: tree.Spec, report: Report) -> None:
    """The first declaration of a spec is its model's name."""
    if spec.name is None and not report:
        start = spec.items[0].span.start if spec.items else 0
        report.error(
            "T108",
            "the model has no name",
            Span(spec.span.source, start, start + 1),
            "before this",
            help="begin the file with `model my_model`",
        )
    elif spec.name and any(
        i.span.source is spec.span.source and i.span.start < spec.name.span.start for i in spec.items
    ):
        report.error(
            "T108",
            "the model's name comes after other declarations",
            spec.name.span,
            "not first",
            help="move the `model` line to the top",
        )


def sources(path: str | Path) -> list[Path]:
    """A spec's own file and all that it includes, as resolved paths in the order in which they are read."""
    path = Path(path)
    loader = _Loader(path.resolve().parent)
    loader.load(path, str(path))
    return list(loader.seen)
