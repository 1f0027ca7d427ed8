"""A corpus, a configuration and a way to call entry points, small enough to go through everything in seconds."""

import concurrent.futures
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from benchmarks.tiny_run import COMPILER, Result, command, write_corpus  # noqa: F401  used by the tests

ROOT = Path(__file__).parents[2]


def flat(config, before=""):
    """{dotted key: value} of a ConfigDict or a dict, its sections opened."""
    found = {}
    for key, value in config.items():
        found |= flat(value, f"{before}{key}.") if hasattr(value, "items") else {before + key: value}
    return found


def record(workdir):
    """What a run has recorded: its config.json."""
    return json.loads((workdir / "config.json").read_text())


def assert_refused(result, *words):
    """Exit status 2, and one line `error: …` with these words."""
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert (result.status, len(lines)) == (2, 1), result
    assert "Traceback" not in result.err, result.err
    for word in words:
        assert word in lines[0], lines[0]


@contextlib.contextmanager
def quick_compiler(cache):
    """Compiles without optimizing, and a program met before not at all."""
    wanted = COMPILER | {"jax_compilation_cache_dir": str(cache)}
    former = {name: jax.config.values[name] for name in wanted}
    _configure(wanted)
    try:
        yield
    finally:
        _configure(former)


def _configure(values):
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # else it stays as the first compilation found it


def _environment(changes):
    """As this process has it, compiler and all, with these changes."""
    compiler = {name.upper(): str(jax.config.values[name]) for name in (*COMPILER, "jax_compilation_cache_dir")}
    return os.environ | compiler | {"JAX_PLATFORMS": "cpu"} | changes


def python(*arguments, **environment):
    """Another Python process, compiling as this one does. Returns subprocess's result."""
    program, options = [sys.executable, *map(str, arguments)], {"capture_output": True, "text": True, "timeout": 240}
    return subprocess.run(program, cwd=ROOT, env=_environment(environment), **options)


def many_devices(count: int) -> str:
    """XLA_FLAGS as this process has them, for so many devices of a CPU."""
    return f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"


def started(*arguments, processes=1, devices=1):
    """As many processes of one run, with so many devices each, under way: subprocess.Popen, standard streams piped."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)}
    common["XLA_FLAGS"] = many_devices(devices)
    # The tests' own modules, too.
    common["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "system"), *filter(None, sys.path)])
    program, pipes = [sys.executable, *map(str, arguments)], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environments = [_environment(common | {"JAX_PROCESS_ID": str(index)}) for index in range(processes)]
    return [subprocess.Popen(program, cwd=ROOT, env=environment, text=True, **pipes) for environment in environments]


def finished(running):
    """The Results of `started` processes, once all have ended; those that do not are killed."""
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            ended = list(pool.map(lambda one: one.communicate(timeout=240), running))
    finally:
        for one in running:
            one.kill()
    return [Result(one.returncode, *texts) for one, texts in zip(running, ended, strict=True)]


def evaluated(workdir, output, *options):
    result = command("evaluate", f"--workdir={workdir}", f"--output={output}", *options)
    assert result.status == 0, result.err
    return json.loads(output.read_text()), result.out + result.err


def scored(workdir, output, *options):
    """What the report says of the likelihood."""
    report, printed = evaluated(workdir, output, *options)
    section = report["sections"]["likelihood"]
    return section["details"] | {"protocol": section["protocol"]}, printed


def terminated_at(monkeypatch, config_file, workdir, kind, name, step, *more):
    """A run that gets SIGTERM when `kind.name` is called for a step. more: flags."""
    former = getattr(kind, name)

    def called(self, at, *arguments, **options):
        former(self, at, *arguments, **options)
        if at == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(kind, name, called)
        return command("train", f"--config={config_file}", f"--workdir={workdir}", *more)
