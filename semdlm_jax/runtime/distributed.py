"""Several processes as one program: they find each other, only one of them prints, and they end together."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
from jax._src import clusters, distributed  # the number of processes ahead of joining, and the client, are not public

from semdlm_jax.errors import UserError
from semdlm_jax.runtime import fatal
from semdlm_jax.runtime.startup import is_running

HEARTBEAT_SECONDS = 40  # a process without a heartbeat for so long counts as dead
LEAVING_SECONDS = 5
ADDRESS, COUNT, INDEX = ASKED = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# How a collective, a barrier or a connection says that the other side is gone.
LOST = re.compile("gloo|nccl|peer|heartbeat|preempted|barrier|coordination.?service|socket closed", re.IGNORECASE)


def start(stops: bool = False) -> None:
    """Joins the other processes of the run; does nothing if the environment describes a single process.

    The environment gives JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID, or JAX detects SLURM, Open MPI, TPU pods or Kubernetes. To be called before JAX is asked for
    devices. Afterwards only process 0 writes to standard output.

    Args:
        stops: SIGTERM and SIGINT become requests to `GracefulStop`, which all processes follow together. Only in the
            main thread.

    Raises:
        UserError: the processes do not find each other.
    """
    if jax.distributed.is_initialized():
        return
    try:
        asked = _asked()
        if asked.get("num_processes") == 1 or not (asked or _detected() > 1):
            return
        if asked.get("process_id") == 0 and "coordinator_address" in asked:
            socket.create_server(("", int(asked["coordinator_address"].rpartition(":")[2]))).close()  # JAX would crash
        _shorten_fatal_errors()
        jax.config.update("jax_enable_preemption_service", stops)
        with _requests_kept() if stops else contextlib.nullcontext():
            jax.distributed.initialize(**asked, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError, LookupError, OSError, ImportError) as error:
        cause = " ".join(str(error).split())[:300]
        raise UserError(
            f"the processes of this run do not find one another ({cause}): give {', '.join(ASKED)} to each, the address"
            " as host:port of the first, or to none"
        ) from None
    if distributed.global_state.process_id:
        sys.stdout = open(os.devnull, "w")


def _asked() -> dict[str, Any]:
    """The environment variables as arguments of jax.distributed.initialize, which itself reads only the address.

    ValueError for an invalid value.
    """
    given = {name: os.environ[name] for name in ASKED if name in os.environ}
    for name, value in given.items():
        if not re.fullmatch(r".+:\d+" if name == ADDRESS else r"\d+", value):
            raise ValueError(f"{name} is {value!r}")
    names = {ADDRESS: "coordinator_address", COUNT: "num_processes", INDEX: "process_id"}
    return {names[name]: value if name == ADDRESS else int(value) for name, value in given.items()}


def _detected():
    """The number of processes that a launcher known to JAX has started; 1 without such a launcher."""
    single = {
        # The shell that salloc opens is a step of one task, but JAX would count the job's.
        clusters.SlurmCluster: os.environ.get("SLURM_STEP_NUM_TASKS") == "1",
        # In a pod of anything but an indexed job JAX would ask the cluster, and fail.
        clusters.K8sCluster: "JOB_COMPLETION_INDEX" not in os.environ,
    }
    for cluster in clusters.ClusterEnv._cluster_types:
        if not (cluster.opt_in_only_method or single.get(cluster)) and cluster.is_env_present():
            return cluster.get_process_count()
    return 1


@contextlib.contextmanager
def _requests_kept():
    """Passes signals that come while the processes join, and later ones, to JAX.

    JAX's handler of SIGTERM, which replaces Python's, informs all processes.
    """
    early = []
    signums = (signal.SIGTERM, signal.SIGINT)
    former = {signum: signal.signal(signum, lambda signum, frame: early.append(signum)) for signum in signums}
    try:
        yield
    except BaseException:
        for signum, handler in former.items():
            signal.signal(signum, handler)
        raise
    signal.signal(signal.SIGINT, _pass_on)
    if early:
        signal.raise_signal(signal.SIGTERM)


def _pass_on(signum, frame):
    """The first SIGINT requests a stop; a second one raises KeyboardInterrupt."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.raise_signal(signal.SIGTERM)


def _shorten_fatal_errors():
    """From now on what is written to descriptor 2 goes through `fatal`."""
    command = [sys.executable, "-I", "-S", fatal.__file__]
    copier = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    assert copier.stdin is not None
    sys.stderr.flush()
    os.dup2(copier.stdin.fileno(), 2)
    copier.stdin.close()
    copier.returncode = 0  # nobody waits for it: it ends with this process


@contextlib.contextmanager
def ends_together() -> Iterator[None]:
    """Around a program: if one of several processes fails, it exits at once, so that the others end too.

    Otherwise the processes would wait for each other. An error that means that another process is gone is reported in
    one sentence. A program that was stopped by a signal also exits at once, because Python would crash if it ended
    normally while a computation still runs.
    """
    try:
        yield
    except SystemExit as exit:
        if exit.code and jax.distributed.is_initialized():
            _leave(exit.code)
        if isinstance(exit.code, int) and exit.code > 128 and is_running("semdlm_jax"):
            _leave(exit.code, alone=True)
        raise
    except Exception as error:
        if not jax.distributed.is_initialized():
            raise
        lost = LOST.search(str(error)) is not None
        if lost:
            print(f"{fatal.SENTENCE} ({' '.join(str(error).split())[:200]})", file=sys.stderr)
        else:
            traceback.print_exc()
        _leave(1, alone=lost)


def _leave(status, alone=False) -> NoReturn:
    """Ends this process without waiting for the others, which Python's normal end would do.

    The end of the first process aborts the others. Unless `alone`, processes that fail at the same time therefore get a
    moment to report why.
    """
    if not alone:
        with contextlib.suppress(Exception):
            client: Any = distributed.global_state.client
            client.wait_at_barrier("leaving", 1000 * LEAVING_SECONDS)
            time.sleep(0 if distributed.global_state.process_id else 0.5)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)
