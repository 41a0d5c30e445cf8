"""Where files are made: in this process, in processes of our own, or wherever an executor runs tasks."""

from __future__ import annotations

import concurrent.futures as cf
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import types
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar, final

import numba
import threadpoolctl
import torch

from ...solvers.allocator import keep_freed_memory

T = TypeVar("T")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class Future(Protocol):
    """What `submit` returns."""

    def result(self) -> Any:
        """Wait for the result."""


class Executor(Protocol):
    """Whatever runs functions: of `concurrent.futures`, Dask, mpi4py, submitit."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future:
        """Run a function somewhere, soon."""
        ...


class Lifeline(Protocol):
    """The end of a pipe on which nothing is ever sent: reading it ends when the other side is gone."""

    def recv_bytes(self) -> bytes:
        """Wait."""
        ...


class WorkerDied(RuntimeError):
    """A process that made files ended without a word."""


class MainUnprotected(RuntimeError):
    """A script starts processes that run the script again."""


_lock = threading.Lock()
_inside = 0
_limits: threadpoolctl.threadpool_limits | None = None


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch, numba, BLAS and OpenMP use one thread, and restore what was there.

    Sums in another order differ in their last bits: on one thread results do not depend on the machine's
    cores. Several threads of one process may be inside at the same time.
    """
    global _inside, _limits
    torch_threads, numba_threads = torch.get_num_threads(), numba.get_num_threads()
    with (
        _lock
    ):  # these limits hold for the whole process: the first one in sets them, the last one out restores
        if _inside == 0:
            _limits = threadpoolctl.threadpool_limits(1)
        _inside += 1
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _limits is not None:
                _limits.restore_original_limits()
        torch.set_num_threads(torch_threads)
        numba.set_num_threads(numba_threads)


def run(executor: Executor, function: Callable[[Any], T], tasks: Iterable[Any]) -> Generator[T]:
    """Run tasks and yield what they return, as they finish; the first error ends the run.

    On an error tasks that wait are cancelled, those that run are waited for, what they return is yielded,
    and the error is raised. Futures that are not of `concurrent.futures` are waited for in order, up to the
    first error.
    """
    futures = [executor.submit(function, task) for task in tasks]
    try:
        ours = [future for future in futures if isinstance(future, cf.Future)]
        if len(ours) < len(futures):
            for future in futures:
                yield future.result()
            return
        seen, failed = set(), None
        for future in cf.as_completed(ours):
            seen.add(future)
            failed = future.exception()
            if failed is not None:
                break
            yield future.result()
        cancel(ours)  # not every executor tells those who wait that a task is cancelled
        running = {future for future in ours if future not in seen and not future.cancelled()}
        for future in cf.wait(running).done:
            if future.exception() is None:
                yield future.result()
        if failed is not None:
            raise failed
    finally:
        cancel(futures)


def cancel(futures: Iterable[Any]) -> None:
    """Cancel what has not begun."""
    for future in futures:
        if hasattr(future, "cancel"):
            future.cancel()


@final
class Processes:
    """Processes of our own, each on one thread; they end with this one, however it ends.

    Args:
        workers: how many.
        payload: what will be sent; decides whether the main script has to be run again by the workers.
    """

    def __init__(self, workers: int, payload: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._reader, self._lifeline = context.Pipe(duplex=False)
        self._needs_main = b"__main__" in pickle.dumps(payload)
        self._pool = cf.ProcessPoolExecutor(workers, context, _begin, (self._reader,))
        self.workers = workers

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self._lifeline.close()  # workers see the end of it, and end
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._lifeline.close()
        self._reader.close()

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> cf.Future[Any]:
        """Run a function in one of the processes."""
        if self._needs_main:
            return self._pool.submit(function, *arguments)
        with _main_left_alone():
            return self._pool.submit(function, *arguments)


@contextmanager
def _main_left_alone() -> Iterator[None]:
    """Start processes that do not run the main script again: it may have no `if __name__ == "__main__"`."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def check_not_starting() -> None:
    """Raise `MainUnprotected` in a process that is being started and runs the main script for that."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise MainUnprotected(
            "generate() was called while a worker process was starting: the script calls it at its top "
            "level, and holds the recipe's class, so that workers run it. Put the call under "
            "`if __name__ == '__main__':`, or the class into a file of its own"
        )


def _begin(lifeline: Lifeline) -> None:
    """Prepare a worker: one thread, freed memory kept, no Ctrl-C, an end when the coordinator is gone."""
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _THREADS:  # for libraries that are loaded later
        os.environ[name] = "1"
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Lifeline) -> None:
    with suppress(EOFError, OSError):
        lifeline.recv_bytes()
    os._exit(1)
