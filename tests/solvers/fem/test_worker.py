"""The worker's protocol, against servers that misbehave on purpose, and against being killed."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import scipy.sparse as sp

from solvus.solvers.fem import (
    FenicsUnavailable,
    FenicsWorker,
    ProtocolMismatch,
    WorkerDied,
    WorkerFailure,
    WorkerTimeout,
    petsc_solve,
)
from solvus.solvers.fem import worker as module
from solvus.solvers.fem.worker import Request

HEAD = """
import json, os, sys, time
def send(message):
    print("@solvus " + json.dumps(message), flush=True)
def ok(request, **meta):
    send({"id": request["id"], "ok": True, "arrays": None, "meta": meta, "wall_s": 0.0})
def fail(request, kind):
    error = {"type": kind, "message": "told so", "traceback": "somewhere"}
    send({"id": request["id"], "ok": False, "error": error})
"""
SERVE = 'send({"protocol": 1, "pid": os.getpid()})\nfor line in sys.stdin:\n    request = json.loads(line)\n'
ASK = Request("info", {}, {})


@pytest.fixture
def serve(tmp_path):
    """Return a function that starts a worker whose server does what a few lines of Python say."""
    started = []

    def start(body, *, before=SERVE, timeout=20.0):
        script = tmp_path / "server.py"
        indent = "    " if before else ""
        script.write_text(HEAD + before + textwrap.indent(textwrap.dedent(body), indent))
        started.append(FenicsWorker(sys.executable, script=script, timeout=timeout))
        return started[-1]

    yield start
    for worker in started:
        worker.close()


def test_answers_come_back_and_the_process_is_kept(serve):
    worker = serve("ok(request, pid=os.getpid(), op=request['op'])")
    first, second = worker.call(ASK), worker.call(Request("other", {}, {}))
    assert first.meta["pid"] == second.meta["pid"] == worker.pid != os.getpid()
    assert second.meta["op"] == "other"


def test_arrays_are_in_the_request_and_files_are_taken_away(serve):
    worker = serve("""
        seen = os.path.exists(request["arrays"])
        ok(request, seen=seen, folder=os.path.dirname(request["arrays"]))
    """)
    meta = worker.call(Request("x", {}, {"a": np.arange(3)})).meta
    assert meta["seen"]
    assert os.listdir(meta["folder"]) == ["stderr.log"]


def test_chatter_on_standard_output_is_ignored(serve):
    worker = serve("print('MPI says hello'); print('{}'); ok(request, fine=1)")
    assert worker.call(ASK).meta == {"fine": 1}


def test_environment_is_cleaned(serve, monkeypatch):
    for name in (
        "PYTHONPATH",
        "PYTHONHOME",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "OMPI_COMM",
        "PMI_RANK",
        "SLURM_ID",
    ):
        monkeypatch.setenv(name, "misleading")
    meta = serve("ok(request, env=dict(os.environ))").call(ASK).meta
    assert "misleading" not in meta["env"].values()
    assert meta["env"]["OMP_NUM_THREADS"] == "1"


def test_death_is_followed_by_one_restart(serve, tmp_path):
    worker = serve(f"""
        flag = {str(tmp_path / "been")!r}
        if not os.path.exists(flag):
            open(flag, "w").close()
            os._exit(3)
        ok(request, fine=1)
    """)
    assert worker.call(ASK).meta == {"fine": 1}


def test_second_death_is_an_error_with_its_last_words(serve):
    worker = serve("print('out of luck', file=sys.stderr, flush=True); os._exit(3)")
    with pytest.raises(WorkerDied, match=r"died during 'info', and again after a restart.*\n*out of luck"):
        worker.call(ASK)


def test_server_that_ends_at_once(serve):
    worker = serve("raise SystemExit('no such library')", before="")
    with pytest.raises(WorkerDied, match="no such library"):
        worker.call(ASK)


def test_time_limit_ends_the_process_and_the_next_request_starts_another(serve, tmp_path):
    worker = serve(
        f"""
        flag = {str(tmp_path / "been")!r}
        if not os.path.exists(flag):
            open(flag, "w").close()
            time.sleep(60)
        ok(request, fine=1)
        """,
        timeout=1.5,
    )
    with pytest.raises(
        WorkerTimeout, match=r"did not finish 'info' within 1.5 s and was ended: allow more time"
    ):
        worker.call(ASK)
    assert worker.pid is None
    assert worker.call(ASK).meta == {"fine": 1}


def test_other_protocol_is_refused(serve):
    worker = serve('send({"protocol": 99})\ntime.sleep(60)', before="")
    with pytest.raises(ProtocolMismatch, match=r"speaks protocol 99, this version of solvus needs 1"):
        worker.call(ASK)


def test_lines_that_are_not_json_are_refused(serve):
    worker = serve("print('@solvus {', flush=True)")
    with pytest.raises(ProtocolMismatch, match="sent a line that is not JSON"):
        worker.call(ASK)


@pytest.mark.parametrize(("kind", "error"), [("ValueError", ValueError), ("TypeError", TypeError)])
def test_errors_of_the_caller_keep_their_type(serve, kind, error):
    with pytest.raises(error, match=r"^told so$"):
        serve(f"fail(request, {kind!r})").call(ASK)


def test_other_errors_carry_the_traceback(serve):
    with pytest.raises(WorkerFailure, match=r"'info' failed in the worker .* KeyError: told so\nsomewhere"):
        serve("fail(request, 'KeyError')").call(ASK)


def test_what_a_request_builds_on_is_sent_when_it_is_missing(serve):
    worker = serve("""
        known = globals().setdefault("known", [])
        if request["op"] == "space":
            known.append(1)
        if request["op"] == "solve" and not known:
            fail(request, "Forgotten")
        else:
            ok(request, times=len(known))
    """)
    needed = Request("space", {}, {})
    assert worker.call(Request("solve", {}, {}), needed).meta == {"times": 1}
    assert worker.call(Request("solve", {}, {}), needed).meta == {"times": 1}
    worker.close()
    assert worker.call(Request("solve", {}, {}), needed).meta == {"times": 1}


def test_requests_of_several_threads_wait_for_each_other(serve):
    worker = serve("time.sleep(0.01); ok(request, number=request['params']['number'])")
    got = {}

    def ask(number):
        got[number] = worker.call(Request("x", {"number": number}, {})).meta["number"]

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {n: n for n in range(8)}


def test_closing_ends_the_process_and_removes_its_folder(serve):
    worker = serve("ok(request)")
    worker.call(ASK)
    pid, folder = worker.pid, worker._folder
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    worker._clean()
    assert not folder.exists()


def test_bad_settings():
    with pytest.raises(ValueError, match="ranks >= 1 and a positive timeout, got 0 and 600"):
        FenicsWorker(sys.executable, ranks=0)


def test_ranks_need_mpiexec(monkeypatch):
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    with pytest.raises(FenicsUnavailable, match="2 ranks need `mpiexec`"):
        FenicsWorker("/nowhere/python", ranks=2).call(ASK)


def laplace(n):
    line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    return sp.csr_array(sp.kron(line, sp.eye_array(n)) + sp.kron(sp.eye_array(n), line))


def kill_while_it_works(worker, times, stop):
    """Kill the server `times` times, each time once it has had time to start on a request."""
    seen = set()
    while len(seen) < times and not stop.is_set():
        pid = worker.pid
        if pid is not None and pid not in seen:
            time.sleep(0.3)
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


CLIENT = """
import sys
import numpy as np
import scipy.sparse as sp
from solvus.solvers.fem import FenicsWorker, petsc_solve
from solvus.solvers.fem.worker import Request

line = sp.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(300, 300))
A = sp.csr_array(sp.kron(line, sp.eye_array(300)) + sp.kron(sp.eye_array(300), line))
worker = FenicsWorker(ranks=int(sys.argv[1]))
worker.call(Request("info", {}, {}))
print(worker.pid, flush=True)
endless = {"ksp_type": "richardson", "pc_type": "none", "ksp_max_it": 10**9, "ksp_rtol": 1e-60}
endless["ksp_richardson_scale"] = 1e-9
petsc_solve(A, np.ones(A.shape[0]), endless, worker=worker)
"""


def alive(pid):
    """Whether a process runs; one that has ended but is not yet collected does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.fenics
@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
@pytest.mark.parametrize("ranks", ["1", "2"])
def test_worker_does_not_outlive_a_client_that_is_killed(ranks):
    client = subprocess.Popen([sys.executable, "-c", CLIENT, ranks], stdout=subprocess.PIPE, text=True)
    pid = int(client.stdout.readline())
    time.sleep(0.7)  # the solve is under way
    assert client.poll() is None
    assert alive(pid)
    client.kill()
    client.wait()
    client.stdout.close()
    for _ in range(100):
        if not alive(pid):
            break
        time.sleep(0.1)
    gone = not alive(pid)
    if not gone:
        os.kill(pid, signal.SIGKILL)
    assert gone


@pytest.mark.fenics
@pytest.mark.parametrize("times", [1, 2])
def test_killed_in_the_middle_of_a_solve(times):
    A = laplace(180)
    worker = FenicsWorker(timeout=120)
    slow = {"ksp_type": "cg", "pc_type": "none", "ksp_max_it": 4000, "ksp_rtol": 1e-60}
    stop = threading.Event()
    killer = threading.Thread(target=kill_while_it_works, args=(worker, times, stop))
    killer.start()
    try:
        if times == 1:
            run = petsc_solve(A, np.ones(A.shape[0]), slow, worker=worker)
            assert run.residual < 1e-6
        else:
            with pytest.raises(WorkerDied, match="died during 'petsc_solve', and again after a restart"):
                petsc_solve(A, np.ones(A.shape[0]), slow, worker=worker)
    finally:
        stop.set()
        killer.join()
        worker.close()
