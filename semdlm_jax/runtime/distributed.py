"""Several processes as one program: they find each other, only one of them prints, and they end together."""

import contextlib
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import jax
from jax._src import clusters, distributed  # the number of processes ahead of joining, and the client, are not public

from semdlm_jax.errors import UserError
from semdlm_jax.runtime import fatal
from semdlm_jax.runtime.startup import is_running

HEARTBEAT_SECONDS = 40  # a process without a heartbeat for so long counts as dead
LEAVING_SECONDS = 5
WRITING_SECONDS = 24 * 3600  # that the others wait at most for what the first writes at its end
WRITING, WRITTEN = "semdlm_jax/writing", "semdlm_jax/written"
# Arguments of jax.distributed.initialize, which are flags of the same names, and the variables that give them.
VARIABLES = {
    "coordinator_address": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}
# How a collective, a barrier or a connection says that the other side is gone.
LOST = re.compile("gloo|nccl|peer|heartbeat|preempted|barrier|coordination.?service|socket closed", re.IGNORECASE)


def start(stops: bool = False, given: Mapping[str, Any] | None = None) -> None:
    """Joins the other processes of the run; does nothing if there is a single process.

    The address (host:port of the first process), the number of processes and the index of this one are those of
    `given`, or of the environment (VARIABLES), or JAX detects SLURM, Open MPI, TPU pods or Kubernetes. To be called
    before JAX is asked for devices. Afterwards only process 0 writes to standard output.

    Args:
        stops: SIGTERM and SIGINT become requests to `GracefulStop`, which all processes follow together. Only in the
            main thread.
        given: {argument of jax.distributed.initialize: value or None}, the flags of VARIABLES.

    Raises:
        UserError: the processes do not find each other.
    """
    if jax.distributed.is_initialized():
        return
    try:
        asked = _asked(given or {})
        if asked.get("num_processes") == 1 or not (asked or _detected() > 1):
            return
        if asked.get("process_id") == 0 and "coordinator_address" in asked:
            socket.create_server(("", int(asked["coordinator_address"].rpartition(":")[2]))).close()  # JAX would crash
        if len(asked) == len(VARIABLES) and "KUBERNETES_SERVICE_HOST" in os.environ:
            asked["cluster_detection_method"] = "deactivate"  # else JAX asks the cluster, which pods rarely may
        _shorten_fatal_errors()
        jax.config.update("jax_enable_preemption_service", stops)
        with _requests_kept() if stops else contextlib.nullcontext():
            jax.distributed.initialize(**asked, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (ValueError, RuntimeError, LookupError, OSError, ImportError) as error:
        cause = " ".join(str(error).split())[:300]
        names = ", ".join(f"--{name}" for name in VARIABLES)
        raise UserError(
            f"the processes of this run do not find one another ({cause}): give {names}"
            f" (or {', '.join(VARIABLES.values())}) to each, the address as host:port of the first, or to none"
        ) from None
    if jax.process_count() > 1 and jax.default_backend() == "cpu":
        # Programs of several CPU processes that came from the cache crashed in gloo, whose collectives did not match;
        # compiled anew they run.
        jax.config.update("jax_enable_compilation_cache", False)
    if distributed.global_state.process_id:
        sys.stdout = open(os.devnull, "w")


def _asked(given):
    """Flags and environment variables as arguments of jax.distributed.initialize, which itself reads only the address.

    ValueError for an invalid value.
    """
    found = {}
    for name, variable in VARIABLES.items():
        flag = given.get(name)
        value = os.environ.get(variable) if flag is None else str(flag)
        if value is None:
            continue
        number = name != "coordinator_address"
        if not re.fullmatch(r"\d+" if number else r".+:\d+", value):
            raise ValueError(f"{variable if flag is None else f'--{name}'} is {value!r}")
        found[name] = int(value) if number else value
    if found.get("process_id", 0) >= found.get("num_processes", math.inf):
        raise ValueError(f"process {found['process_id']} of {found['num_processes']}, which are counted from 0")
    return found


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


def tell_first(key: str) -> None:
    """Process 0 says that it begins (WRITING), or has done (WRITTEN), what it has to do at its end.

    In between, processes that fail wait for it: the coordination service would abort it after their end.
    """
    client: Any = distributed.global_state.client
    if client is not None and not distributed.global_state.process_id:
        with contextlib.suppress(Exception):
            client.key_value_set(key, "", allow_overwrite=True)


def _leave(status, alone=False) -> NoReturn:
    """Ends this process without waiting for the others, which Python's normal end would do.

    The end of the first process aborts the others. Unless `alone`, processes that fail at the same time therefore get a
    moment to report why.
    """
    if not alone:
        with contextlib.suppress(Exception):
            client: Any = distributed.global_state.client
            with contextlib.suppress(Exception):
                client.wait_at_barrier("leaving", 1000 * LEAVING_SECONDS)
            if distributed.global_state.process_id:
                client.key_value_try_get(WRITING)  # raises where there is none
                client.blocking_key_value_get(WRITTEN, 1000 * WRITING_SECONDS)
            else:
                time.sleep(0.5)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 1)
