"""Makes a failing spec small: lines, and blocks with all that is in them, are left out as long as it fails alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

Files = dict[str, str]


def shrink(files: Mapping[str, str], fails: Callable[[Files], bool], tries: int = 400) -> Files:
    """The smallest files found, in which nothing can be left out, or as far as the tries last."""
    best = dict(files)
    progress = True
    while progress and tries > 0:
        progress = False
        for smaller in _smaller(best):
            tries -= 1
            if tries < 0:
                break
            if fails(smaller):
                best, progress = smaller, True
                break
    return best


def _smaller(files: Files) -> Iterator[Files]:
    """The files with one part left out, large parts first."""
    parts = [(end - start, name, start, end) for name, text in files.items() for start, end in _parts(text)]
    for _, name, start, end in sorted(parts, reverse=True):
        lines = files[name].splitlines(keepends=True)
        yield {**files, name: "".join([*lines[:start], *lines[end:]])}


def _parts(text: str) -> Iterator[tuple[int, int]]:
    """Lines by themselves, blocks with their head, and the braces of a block without what is in it."""
    lines = text.splitlines()
    for start, line in enumerate(lines):
        end = start + 1
        depth = line.count("{") - line.count("}")
        while depth > 0 and end < len(lines):
            depth += lines[end].count("{") - lines[end].count("}")
            end += 1
        if depth == 0:
            yield start, end
