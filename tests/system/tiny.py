"""A corpus, a configuration and a way to call entry points, small enough to go through everything in seconds."""

import concurrent.futures
import contextlib
import importlib.util
import io
import os
import random
import runpy
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags
from jax.experimental.compilation_cache import compilation_cache

from semdlm_jax import evaluate, train  # noqa: F401  all flags but the entry points' own are defined from now on

ROOT = Path(__file__).parents[2]

CONFIG = """
from configs import base, systems


def get_config(system=None):
    config = base.get_config()
    config.data.update(corpus="text:{folder}/text.txt", directory="{folder}/data", vocab_size=40, length=16)
    config.semantics.update(neighbours=6, dimensions=8, min_count=1)
    config.kernel.k_max = 4
    config.warmup.steps = 6
    config.network.update(width=32, layers=2, heads=2, condition_width=8, dropout=0.1, dtype="float32")
    config.optimizer.update(learning_rate=5e-3, warmup_steps=2)
    config.training.update(steps=12, batch_size=8, log_every=1, eval_every=100, checkpoint_every=5, keep_latest=9)
    config.evaluation.update(batch_size=8, valid_batches=2, chunk=0, samples=4, sample_steps=4)
    return systems.apply(config, system, optimizer=False)
"""


def write_corpus(folder):
    """A text whose every word tells the next, so that little training shows, and CONFIG beside it."""
    draw = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(16)]
    starts = draw.choices(range(16), k=800)
    paragraphs = [" ".join((words * 3)[start : start + draw.randint(8, 16)]) for start in starts]
    (folder / "text.txt").write_text("\n\n".join(paragraphs))
    (folder / "config.py").write_text(CONFIG.format(folder=folder))
    return folder / "config.py"


def flat(config, before=""):
    """{dotted key: value} of a ConfigDict or a dict, its sections opened."""
    found = {}
    for key, value in config.items():
        found |= flat(value, f"{before}{key}.") if hasattr(value, "items") else {before + key: value}
    return found


class Result(NamedTuple):
    status: int
    out: str
    err: str


def command(module, *arguments):
    """`python -m semdlm_jax.<module> <arguments>` in this process: its exit status and what it printed."""
    known, argv = set(flags.FLAGS), sys.argv
    path = importlib.util.find_spec(f"semdlm_jax.{module}").origin
    out, err = io.StringIO(), io.StringIO()
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    sys.argv = [path, *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            runpy.run_path(path, run_name="__main__")
        raise AssertionError("absl always leaves by SystemExit")
    except SystemExit as exit:
        return Result(exit.code or 0, out.getvalue(), err.getvalue())
    finally:
        sys.argv = argv
        for signum, handler in handlers.items():
            signal.signal(signum, handler)
        for name in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()


def assert_refused(result, *words):
    """Exit status 2, and one line `error: …` with these words."""
    lines = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert (result.status, len(lines)) == (2, 1), result
    assert "Traceback" not in result.err, result.err
    for word in words:
        assert word in lines[0], lines[0]


COMPILER = {
    "jax_disable_most_optimizations": True,
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


@contextlib.contextmanager
def quick_compiler(cache):
    """Compiles without optimising, and a program met before not at all."""
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
    command, options = [sys.executable, *map(str, arguments)], {"capture_output": True, "text": True, "timeout": 300}
    return subprocess.run(command, cwd=ROOT, env=_environment(environment), **options)


def started(*arguments, processes=1, devices=1):
    """As many processes of one run, with so many devices each, under way: subprocess.Popen, standard streams piped."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"
    common = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)}
    common["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    # The tests' own modules, too.
    common["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "system"), *filter(None, sys.path)])
    command, pipes = [sys.executable, *map(str, arguments)], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    environments = [_environment(common | {"JAX_PROCESS_ID": str(index)}) for index in range(processes)]
    return [subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes) for environment in environments]


def finished(running):
    """The Results of `started` processes, once all have ended."""
    with concurrent.futures.ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda one: one.communicate(timeout=300), running))
    return [Result(one.returncode, *texts) for one, texts in zip(running, ended, strict=True)]
