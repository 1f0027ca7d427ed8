"""A corpus and a configuration so small that every program runs in seconds, and a way to call entry points in this
process."""

import contextlib
import importlib.util
import io
import random
import runpy
import signal
import sys
from pathlib import Path
from typing import NamedTuple

from absl import flags

from semdlm_jax import evaluate, train  # noqa: F401  all flags but the entry points' own are defined from now on

CONFIG = """
from semdlm_jax.experiment import defaults, systems


def get_config(system=None):
    config = defaults.get_config()
    config.data.update(corpus="text:{folder}/text.txt", directory="{folder}/data", vocab_size=40, length=16)
    config.semantics.update(neighbors=6, dimensions=8, min_count=1, blocks="16,8,4")
    config.kernel.k_max = 4
    config.warmup.steps = 6
    config.network.update(width=32, layers=2, heads=2, condition_width=8, dropout=0.1, dtype="float32")
    config.optimizer.update(learning_rate=5e-3, warmup_steps=2)
    config.training.update(steps=12, batch_size=8, log_every=1, eval_every=100, checkpoint_every=5, keep_latest=9)
    config.evaluation.update(batch_size=8, valid_batches=2, chunk=0, samples=4, sample_steps=4)
    return systems.apply(config, system, optimizer=False)
"""

# Options of JAX: compile without optimization, and use the cache, if one is set, for programs compiled before.
COMPILER = {
    "jax_disable_most_optimizations": True,
    "jax_persistent_cache_min_compile_time_secs": 0,
    "jax_persistent_cache_min_entry_size_bytes": -1,
}


def write_corpus(folder: Path) -> Path:
    """Writes a text in which every word determines the next one, so that a short training has an effect, and CONFIG.
    Returns the path of CONFIG."""
    draw = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfgklmnprst" for vowel in "aeiou"]
    words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(16)]
    starts = draw.choices(range(16), k=800)
    paragraphs = [" ".join((words * 3)[start : start + draw.randint(8, 16)]) for start in starts]
    (folder / "text.txt").write_text("\n\n".join(paragraphs))
    (folder / "config.py").write_text(CONFIG.format(folder=folder))
    return folder / "config.py"


class Result(NamedTuple):
    """How a command ended: exit status (-N where signal N ended it), standard output and standard error."""

    status: int
    out: str
    err: str


def command(module: str, *arguments) -> Result:
    """Runs `python -m semdlm_jax.<module> <arguments>` in this process."""
    known, argv = set(flags.FLAGS), sys.argv
    spec = importlib.util.find_spec(f"semdlm_jax.{module}")
    if spec.submodule_search_locations is not None:  # a package, whose program is its __main__
        spec = importlib.util.find_spec(f"semdlm_jax.{module}.__main__")
    path = spec.origin
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
