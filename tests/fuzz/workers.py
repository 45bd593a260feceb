"""Runs trials in forked processes: a crash or a hang is a finding, and the run goes on."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

import torch

RENEWED = 60  # trials after which a worker makes room for a fresh one: TorchScript keeps every class that it saw


@dataclass(frozen=True)
class Result:
    """What one trial gave: `ok`, or the kind of failure with its details; counts of what it reached."""

    seed: int
    kind: str
    detail: str = ""
    counts: dict[str, int] = field(default_factory=dict)
    note: str = ""  # of an ok one: what became of it


Job = Callable[[int], Result]


class _Worker:
    """A forked process: it reads seeds, a line each, and writes results."""

    def __init__(self, job: Job, selector: selectors.BaseSelector) -> None:
        seeds, results = os.pipe(), os.pipe()
        self.selector, self.done = selector, 0
        self.seed: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            os.close(seeds[1])
            os.close(results[0])
            _serve(job, os.fdopen(seeds[0]), os.fdopen(results[1], "w"))
        os.close(seeds[0])
        os.close(results[1])
        self.seeds, self.results = os.fdopen(seeds[1], "w"), os.fdopen(results[0])
        selector.register(self.results, selectors.EVENT_READ, self)

    def give(self, seed: int) -> None:
        self.seed, self.since = seed, time.monotonic()
        with contextlib.suppress(BrokenPipeError):  # it has died: that is seen when it is asked for the result
            print(seed, file=self.seeds, flush=True)

    def result(self, limit: float, ready: bool) -> Result | None:
        """What it says of its seed; where it says nothing it hangs, or has died; none while it may still say so."""
        assert self.seed is not None
        late = time.monotonic() - self.since > limit
        if not ready and not late:
            return None
        line = self.results.readline() if ready else ""
        if line:
            found, self.seed = Result(**json.loads(line)), None
            self.done += 1
            return found
        if ready:
            return Result(self.seed, "crash", f"the process ended: {_ended(self.end())}")
        return Result(self.seed, "hang", f"it took more than {limit:g} seconds")

    def end(self) -> int:
        """Ends the process, whatever it is at; how it ended, by itself or by this."""
        self.selector.unregister(self.results)
        os.kill(self.pid, signal.SIGKILL)  # other workers hold its pipes' ends, so that closing them says nothing
        status = os.waitpid(self.pid, 0)[1]
        self.results.close()
        with contextlib.suppress(BrokenPipeError):
            self.seeds.close()
        return status


def run(job: Job, seeds: Iterator[int], jobs: int, limit: float) -> Iterator[Result]:
    """The results of all seeds, as they come; a trial that takes longer than `limit` seconds is a hang."""
    workers: list[_Worker] = []
    with selectors.DefaultSelector() as selector:
        try:
            for seed in itertools.islice(seeds, jobs):
                workers.append(_Worker(job, selector))
                workers[-1].give(seed)
            while workers:
                ready = {key.data for key, _ in selector.select(timeout=1.0)}
                for worker in list(workers):
                    found = worker.result(limit, worker in ready)
                    if found is not None:
                        workers.remove(worker)
                        workers += _next(worker, found, seeds, job)
                        yield found
        finally:
            for worker in workers:
                worker.end()


def _next(worker: _Worker, found: Result, seeds: Iterator[int], job: Job) -> list[_Worker]:
    """The worker that goes on: this one, or a fresh one in its place; none where no seed is left."""
    seed = next(seeds, None)
    if seed is None or worker.seed is not None or worker.done >= RENEWED:
        if found.kind != "crash":
            worker.end()
        if seed is None:
            return []
        worker = _Worker(job, worker.selector)
    worker.give(seed)
    return [worker]


def _serve(job: Job, seeds: TextIO, results: TextIO) -> None:
    """A worker's life."""
    torch.set_num_threads(1)  # OpenMP's threads of the parent aren't here, and to wait for them is to hang
    for line in seeds:
        try:
            found = job(int(line))
        except Exception as error:
            found = Result(int(line), f"internal error: {_kind(error)}", traceback.format_exc())
        print(json.dumps(vars(found)), file=results, flush=True)
    os._exit(0)


def _kind(error: Exception) -> str:
    """An error's kind and the first line of what it says, without the names and numbers of one spec."""
    first = (str(error).splitlines() or [""])[0]
    shown = re.sub(r"`[^`]*`|'[^']*'|[\w@]+(?:\.[\w@]+)+|\d+", "…", first)[:100]
    return f"{type(error).__name__}: {shown}"


def _ended(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {signal.Signals(os.WTERMSIG(status)).name}"
    return f"exit code {os.WEXITSTATUS(status)}"
