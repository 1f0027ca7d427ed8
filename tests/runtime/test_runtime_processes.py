"""Processes that find one another, stop together and end together. Real ones run ending_processes."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.runtime import distributed, fatal

JAX = {"JAX_COORDINATOR_ADDRESS": "localhost:1", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "n1",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
}
OPEN_MPI = {"OMPI_MCA_orte_hnp_uri": "4096.0;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "4"}


@pytest.fixture
def joined(monkeypatch):
    """What jax.distributed.initialize is called with."""
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **given: calls.append(given))
    monkeypatch.setattr(distributed, "_shorten_fatal_errors", lambda: None)
    return calls


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, None),
        ({"JAX_NUM_PROCESSES": "1"}, None),
        (JAX, {"coordinator_address": "localhost:1", "num_processes": 2, "process_id": 1}),
        (
            JAX | {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
            {"coordinator_address": "localhost:1", "num_processes": 2, "process_id": 1}
            | {"cluster_detection_method": "deactivate"},
        ),
        (SLURM, {}),
        (SLURM | {"SLURM_NTASKS": "1"}, None),
        (SLURM | {"SLURM_STEP_NUM_TASKS": "1"}, None),  # a shell within an allocation
        ({name: SLURM[name] for name in ("SLURM_JOB_ID", "SLURM_NTASKS")}, None),  # a batch script without srun
        (OPEN_MPI, {}),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
    ],
)
def test_the_environment_says_whether_there_are_several(monkeypatch, joined, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    distributed.start(given={"num_processes": None})  # a flag that is not given
    beats = {"heartbeat_timeout_seconds": distributed.HEARTBEAT_SECONDS}
    assert joined == ([] if expected is None else [expected | beats])


def test_flags_go_before_the_environment(monkeypatch, joined):
    for name, value in JAX.items():
        monkeypatch.setenv(name, value)
    distributed.start(given={"num_processes": 3, "process_id": 2})
    expected = {"coordinator_address": "localhost:1", "num_processes": 3, "process_id": 2}
    assert joined == [expected | {"heartbeat_timeout_seconds": distributed.HEARTBEAT_SECONDS}]
    with pytest.raises(UserError, match="--coordinator_address is 'localhost'"):
        distributed.start(given={"coordinator_address": "localhost"})


@pytest.mark.parametrize(
    "changes, cause",
    [
        ({"JAX_PROCESS_ID": "2"}, "process 2 of 2, which are counted from 0"),
        ({"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is 'two'"),
        ({"JAX_COORDINATOR_ADDRESS": "localhost"}, "JAX_COORDINATOR_ADDRESS is 'localhost'"),
        ({"JAX_COORDINATOR_ADDRESS": ""}, "JAX_COORDINATOR_ADDRESS is ''"),
    ],
)
def test_processes_that_cannot_join_are_told(monkeypatch, changes, cause):
    monkeypatch.setattr(distributed, "_shorten_fatal_errors", lambda: None)
    for name, value in (JAX | changes).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        UserError, match=f"do not find one another.*{cause}.*give --coordinator_address.*JAX_PROCESS_ID"
    ):
        distributed.start()


def test_a_port_that_is_taken_is_told(monkeypatch):
    with socket.create_server(("", 0)) as taken:
        monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
        monkeypatch.setenv("JAX_PROCESS_ID", "0")
        monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", f"localhost:{taken.getsockname()[1]}")
        with pytest.raises(UserError, match="Address already in use"):
            distributed.start()


OMEN = "E1126 16:23:00.793178   11336 coordination_service_agent.cc:289] Polled an error from coordination service.\n"
ABORT = (
    "F1126 16:23:00.793245   11336 client.h:80] Terminating process because the JAX distributed service detected fatal "
    "errors. absl::Status: UNAVAILABLE\n*** Check failure stack trace: ***\n    @     0x7f1792240634  absl::lts\n"
)


@pytest.mark.parametrize(
    "written, shown",
    [
        (["step 1\n", "a line with", "out its end"], "step 1\na line without its end"),
        (["step 1\n", OMEN + ABORT[:300], ABORT[300:]], f"step 1\n{fatal.SENTENCE}\n"),
        ([f"{fatal.SENTENCE} (why)\n", ABORT], f"{fatal.SENTENCE} (why)\n"),
        ([OMEN, f"{fatal.SENTENCE} (why)\n", ABORT], f"{fatal.SENTENCE}\n"),
        ([OMEN, "Traceback\n"], f"{OMEN}Traceback\n"),  # it was something else
        (["F1126 other.cc:1] Check failed\n"], "F1126 other.cc:1] Check failed\n"),
    ],
)
def test_an_abort_for_lost_peers_is_one_sentence(written, shown):
    (source, write), (read, target) = os.pipe(), os.pipe()
    for text in written:
        os.write(write, text.encode())
    os.close(write)
    fatal.copy(source, target)
    os.close(target)
    with open(read) as copied:
        assert copied.read() == shown


@pytest.fixture
def two():
    """Two processes that have done some steps together."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    workers = []
    for index in range(2):
        names = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(index)}
        environment = os.environ | names | {"JAX_PLATFORMS": "cpu"}
        command = [sys.executable, str(Path(__file__).with_name("ending_processes.py"))]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        workers.append(subprocess.Popen(command, env=environment, text=True, **pipes))
    for worker in workers:
        while "step 3" not in (line := worker.stderr.readline()):
            assert line, worker.communicate()
    yield workers
    for worker in workers:
        worker.kill()
        worker.communicate()


def ends(worker):
    """(exit status, standard output, lines of standard error after the steps)."""
    out, err = worker.communicate(timeout=60)
    return worker.returncode, out, [line for line in err.splitlines() if not line.startswith("step")], err


def test_a_request_to_one_stops_both_at_the_same_step(two):
    two[0].send_signal(signal.SIGINT)  # becomes a SIGTERM of its own; tests of training send that
    ended = [ends(worker) for worker in two]
    assert [status for status, *_ in ended] == [0, 0], ended
    last = [err.splitlines()[-1] for *_, err in ended]
    assert last[0] == last[1] and last[0].startswith("step"), ended
    assert "only the first process prints, of 2" in ended[0][1] and "only the first" not in ended[1][1]


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_with_a_sentence(two, killed):
    two[killed].kill()
    status, _, told, _ = ends(two[1 - killed])
    assert status not in (0, None) and len(told) == 1 and told[0].startswith(fatal.SENTENCE), (status, told)


@pytest.mark.parametrize("status, leaves", [(143, True), (130, True), (2, False), (0, False)])
def test_a_program_that_was_stopped_leaves_at_once(monkeypatch, status, leaves):
    """Not by Python's end, which crashes where a computation still runs; a program of its own alone."""
    left = []
    monkeypatch.setattr(distributed, "_leave", lambda code, alone: left.append((code, alone)))
    for running in (True, False):
        monkeypatch.setattr(distributed, "is_running", lambda package, running=running: running)
        with pytest.raises(SystemExit), distributed.ends_together():
            sys.exit(status)
    assert left == [(status, True)] * leaves
