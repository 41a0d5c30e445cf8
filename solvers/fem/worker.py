"""A persistent process under another interpreter that answers finite-element requests."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import monotonic, time
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from .discovery import clean_environment, find_interpreter
from .errors import FenicsUnavailable, ProtocolMismatch, WorkerDied, WorkerFailure, WorkerTimeout
from .server import MARK, PROTOCOL

Arrays = Mapping[str, NDArray[Any]]
_GRACE = 1.0  # seconds for an idle worker to end by itself
_PREFIX = "solvus-fem-"
_ABANDONED = 7 * 86400.0  # seconds without a change after which a folder counts as left behind
_SCRIPT = Path(__file__).with_name("server.py")
_OWN_FAULTS = {"ValueError": ValueError, "TypeError": TypeError}


class _Forgotten(LookupError):
    """The worker lacks what the request builds on."""


@final
class Request(NamedTuple):
    """One thing to ask of a worker."""

    op: str
    params: Mapping[str, Any]
    arrays: Arrays


@final
class Reply(NamedTuple):
    """What a worker answered; `wall_s` is the time inside, `arrays` are in memory."""

    meta: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    wall_s: float


def _scratch() -> Path:
    """Return a new private folder, in memory where there is room."""
    shared = Path("/dev/shm")
    roomy = shared.is_dir() and os.access(shared, os.W_OK) and shutil.disk_usage(shared).free > 2 << 30
    parent = shared if roomy else Path(tempfile.gettempdir())
    for old in parent.glob(f"{_PREFIX}*"):  # of processes that were killed
        with contextlib.suppress(OSError):
            if old.stat().st_uid == os.getuid() and time() - old.stat().st_mtime > _ABANDONED:
                shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))


def _command(interpreter: str, script: Path, ranks: int) -> list[str]:
    own = [interpreter, "-I", str(script)]
    if ranks == 1:
        return own
    beside = Path(interpreter).with_name("mpiexec")
    mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
    if mpiexec is None:
        raise FenicsUnavailable(f"{ranks} ranks need `mpiexec`, which is not on PATH: install MPI")
    return [mpiexec, "-n", str(ranks), *own]


def _environment(interpreter: str, ranks: int, folder: Path) -> dict[str, str]:
    env = clean_environment(interpreter)
    if ranks > 1:
        env |= {"OMPI_MCA_btl_vader_backing_directory": str(folder), "OMPI_MCA_orte_tmpdir_base": str(folder)}
        env |= {"OMPI_MCA_rmaps_base_oversubscribe": "1", "OMPI_MCA_hwloc_base_binding_policy": "none"}
        env |= {
            "OMPI_MCA_mpi_yield_when_idle": "1",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        }
        if os.geteuid() == 0:
            env |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
            env |= {"PRTE_ALLOW_RUN_AS_ROOT": "1", "PRTE_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return env


def _end(process: subprocess.Popen[str], owner: int) -> None:
    """End a process with everything it started: politely if it is idle, else by force."""
    if os.getpid() != owner:  # a fork of the process that started it
        return
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    for step in (signal.SIGTERM, signal.SIGKILL):  # mpiexec passes the first one on to its ranks
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, step)
    process.wait()
    if process.stdout is not None:
        with contextlib.suppress(OSError):
            process.stdout.close()


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _listen(stream: Any, lines: queue.Queue[str | None]) -> None:
    """Pass on the lines that carry the mark, then None at the end."""
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            if line.startswith(MARK):
                lines.put(line[len(MARK) :])
    lines.put(None)


class _Process:
    """One running server: its pipes and its log."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.log = folder / "stderr.log"
        self.lines: queue.Queue[str | None] = queue.Queue()
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=dict(env),
                cwd=folder,
                text=True,
                start_new_session=True,
            )
        threading.Thread(target=_listen, args=(self.process.stdout, self.lines), daemon=True).start()
        self.close = weakref.finalize(self, _end, self.process, os.getpid())

    def send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def receive(self, deadline: float) -> dict[str, Any] | None:
        """Return the next message, None when the process has ended; `queue.Empty` at the deadline."""
        line = self.lines.get(timeout=max(deadline - monotonic(), 1e-3))
        return None if line is None else json.loads(line)

    def tail(self, lines: int = 12) -> str:
        text = self.log.read_text(errors="replace").strip().splitlines()[-lines:]
        return "\n".join(text) or "(nothing on standard error)"


@final
class FenicsWorker:
    """Run FEniCS and PETSc in a process of their own, started at the first request and kept.

    Args:
        interpreter: the Python that has petsc4py and dolfinx; None finds one (see `discover`).
        ranks: MPI processes; more than one runs under `mpiexec`.
        timeout: seconds that a request may take.

    A worker that dies is started again once and asked again; one that exceeds the time limit is ended, and
    the next request starts a new one. Requests from several threads wait for each other.

    Raises:
        FenicsUnavailable: no interpreter has FEniCS.
        WorkerDied, WorkerTimeout, ProtocolMismatch, WorkerFailure: see there; each carries what the worker
            wrote to standard error.
    """

    def __init__(
        self,
        interpreter: str | None = None,
        *,
        ranks: int = 1,
        timeout: float = 600.0,
        script: Path = _SCRIPT,
    ) -> None:
        if ranks < 1 or not timeout > 0:
            raise ValueError(f"a worker needs ranks >= 1 and a positive timeout, got {ranks} and {timeout}")
        self.interpreter = interpreter or find_interpreter().interpreter
        self.ranks, self.timeout = ranks, timeout
        self.info: dict[str, Any] = {}
        self._last_words = ""
        self._script = script
        self._folder = _scratch()
        self._running: _Process | None = None
        self._count = 0
        self._lock = threading.Lock()
        self._clean = weakref.finalize(self, _remove, self._folder, os.getpid())

    @property
    def pid(self) -> int | None:
        """Process id of the server (rank 0), None before the first request."""
        return self.info.get("pid") if self._running else None

    def call(self, request: Request, needed: Request | None = None) -> Reply:
        """Send a request and wait for its answer; `needed` goes first when the worker lacks its result."""
        with self._lock:
            try:
                reply = self._attempt(request, needed)
                if reply is None:
                    reply = self._attempt(request, needed)
            except KeyboardInterrupt:
                self.close()
                raise
            if reply is None:
                raise WorkerDied(
                    f"the worker ({self.interpreter}) died during {request.op!r}, and again after a restart; "
                    f"it wrote:\n{self._last_words}"
                )
            return reply

    def close(self) -> None:
        """End the process; the next request starts a new one."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def _attempt(self, request: Request, needed: Request | None) -> Reply | None:
        """Carry out a request; None when the worker died."""
        running = self._running or self._start()
        if running is None:
            return None
        try:
            return self._exchange(running, request)
        except _Forgotten:
            if needed is None:
                raise AssertionError(f"the worker lacks what {request.op!r} needs") from None
        if self._exchange(running, needed) is None:
            return None
        return self._exchange(running, request)

    def _start(self) -> _Process | None:
        command = _command(self.interpreter, self._script, self.ranks)
        running = _Process(command, _environment(self.interpreter, self.ranks, self._folder), self._folder)
        self._running = running
        message = self._wait(running, "start")
        if message is None:
            return None
        if message.get("protocol") != PROTOCOL:
            self.close()
            raise ProtocolMismatch(
                f"the worker ({self.interpreter}) speaks protocol {message.get('protocol')}, this version of "
                f"solvus needs {PROTOCOL}: both sides must come from the same installation"
            )
        self.info = message
        return running

    def _wait(self, running: _Process, what: str) -> dict[str, Any] | None:
        deadline = monotonic() + self.timeout
        try:
            message = running.receive(deadline)
        except queue.Empty:
            tail = running.tail()
            self.close()
            raise WorkerTimeout(
                f"the worker ({self.interpreter}) did not finish {what!r} within {self.timeout:g} s and was "
                f"ended: allow more time or make the problem smaller; it wrote:\n{tail}"
            ) from None
        except ValueError as error:
            self.close()
            raise ProtocolMismatch(f"the worker ({self.interpreter}) sent a line that is not JSON") from error
        if message is None:
            self._last_words = running.tail()
            self.close()
        return message

    def _exchange(self, running: _Process, request: Request) -> Reply | None:
        self._count += 1
        sent, back = self._folder / f"{self._count}.npz", self._folder / f"{self._count}-reply.npz"
        if request.arrays:
            np.savez(sent, allow_pickle=False, **request.arrays)
        message = {"id": self._count, "op": request.op, "params": dict(request.params)}
        message |= {"arrays": str(sent) if request.arrays else None, "reply": str(back)}
        try:
            running.send(message)
            answer = self._wait(running, request.op)
            if answer is None:
                return None
            if not answer["ok"]:
                self._fail(answer["error"], request.op)
            arrays = {}
            if answer["arrays"]:
                with np.load(back, allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
            return Reply(answer["meta"], arrays, answer["wall_s"])
        finally:
            sent.unlink(missing_ok=True)
            back.unlink(missing_ok=True)

    def _fail(self, error: Mapping[str, str], op: str) -> None:
        if error["type"] == "Forgotten":
            raise _Forgotten
        if error["type"] in _OWN_FAULTS:
            raise _OWN_FAULTS[error["type"]](error["message"])
        raise WorkerFailure(
            f"{op!r} failed in the worker ({self.interpreter}) with {error['type']}: {error['message']}\n"
            f"{error['traceback']}"
        )


@functools.lru_cache(maxsize=8)
def _shared(pid: int, interpreter: str, ranks: int) -> FenicsWorker:
    return FenicsWorker(interpreter, ranks=ranks)


def shared_worker(ranks: int = 1) -> FenicsWorker:
    """Return this process's worker for a number of ranks, made at the first call and kept."""
    return _shared(os.getpid(), find_interpreter().interpreter, ranks)
