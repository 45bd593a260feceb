"""Where the time of a compile goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Watch:
    """Adds up the seconds of each stage; a stage inside another is not counted twice.

    >>> ticks = iter([0.0, 1.0, 3.0, 6.0])
    >>> watch = Watch(clock=lambda: next(ticks))
    >>> with watch.stage("surface"):
    ...     with watch.stage("freeze"):
    ...         pass
    >>> watch.seconds
    {'freeze': 2.0, 'surface': 4.0}
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._clock = clock
        self._inside: list[float] = []  # seconds of the stages within each open one

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Counts what runs within it."""
        began = self._clock()
        self._inside.append(0.0)
        try:
            yield
        finally:
            took = self._clock() - began
            own = took - self._inside.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            if self._inside:
                self._inside[-1] += took
