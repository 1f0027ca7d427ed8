"""Command lines that must be refused, made from the table of options. Each must give a message of one sentence and exit
status 2, before any work is done and without writing any file.

    python -m benchmarks.command_lines     prints them
"""

import math
import pathlib
import shlex
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from semdlm_jax.keys import FLAGS, KEYS, SAMPLING
from semdlm_jax.options import Option, interval

NO_FOLDERS = ("http://bucket/x", "gs://", "~no_such_user/x", "x" * 300, "x/" * 3000)
NO_PATHS = ("gs://bucket/x", "s3://bucket/x", *NO_FOLDERS)
NO_WORKDIRS = ("", " ", "/proc/x", "/proc", "/dev/null", "/dev/null/x", *NO_FOLDERS)
# Functions that exist but build no kernel, and names that do not exist.
NO_KERNELS = (
    *("os:system", "os:nothing", "shutil:rmtree", "builtins:exec", "no_such_module:kernel", "os.path:join"),
    *(":", "os:", ":system", "..os:system", "os:system:x", "os system:x", "json:JSONDecodeError", "math:pi"),
)
NO_KEYS = ("zzz", "kernel.zzz", "zzz.kernel", "seed.x", "kernel", "kernel.schedule", "kernel.schedule.name.x")
# Texts of configuration files, and a word that the message about each must contain.
NO_CONFIGS = {
    "empty": (b"", "get_config"),
    "syntax": (b"def get_config(:\n", "syntax.py line 1"),
    "binary": (bytes(range(256)), "mend its code"),
    "other": (b"def get_configuration(): pass\n", "get_config"),
    "number": (b"get_config = 3\n", "not callable"),
    "nothing": (b"def get_config(): pass\n", "returns nothing"),
    "dict": (b"def get_config(): return {'seed': 1}\n", "returns dict"),
    "raises": (b"def get_config(): raise ValueError('one\\ntwo')\n", "two"),
    "exits": (b"import sys\nsys.exit(3)\n", "SystemExit"),
    "recursion": (b"def get_config(): return get_config()\n", "recursion"),
    "arguments": (b"def get_config(a, b): pass\n", "arguments"),
    "import": (b"import no_such_module\n", "no_such_module"),
    **{
        f"changed_{index}": (
            f"from semdlm_jax.experiment.defaults import get_config as plain\n"
            f"def get_config():\n c = plain()\n {line}\n return c\n".encode(),
            word,
        )
        for index, (line, word) in enumerate(
            {
                "c.kernel.gama = 2.0": "did you mean 'gamma'",
                "c.kernl = {'gamma': 2.0}": "did you mean 'kernel'",
                "c.optimizer.lerning_rate = 1e-3": "did you mean 'learning_rate'",
                "del c.kernel": "kernel.name",
                "del c.seed": "seed",
                "c.seed = 'one'": "one",
                "c.unlock(); c._fields['kernel'] = 3": "config.kernel = 3",
                "c._fields['seed'] = None": "seed = None",
                "c._fields['seed'] = [1]": "seed = [1]",
                "c._fields['seed'] = True": "seed = True",
                "c._fields['seed'] = 1.5": "seed = 1.5",
                "c._fields['seed'] = -1": "seed = -1",
                "c._fields['kernel']._fields['gamma'] = float('nan')": "kernel.gamma = nan",
                "c._fields['kernel']._fields['name'] = None": "kernel.name = None",
                "c.training.steps = 2 ** 70": "training.steps",
                "c.data.directory = ''": "data.directory",
            }.items()
        )
    },
}

FLAGS_OF = {
    "generate": (*SAMPLING, *"workdir data_directory output trace prompts infill".split())
    + ("seed", "num_samples", "batch_size", "trace_samples"),
    "evaluate": "workdir data_directory output text seed samples draws".split(),
}


class Case(NamedTuple):
    """A command line, and a word that its message must contain."""

    module: str
    arguments: list[str]
    word: str

    def __str__(self):
        return shlex.join(["python", "-m", f"semdlm_jax.{self.module}", *self.arguments])


def bad_values(option: Option) -> list:
    """Python values that the option refuses: of other types, and numbers beyond its ends."""
    others = [None, [1], {}, b"1"] if option.default is not None else [[1], b"1"]
    if option.kind is bool:
        return [*others, 1, "yes", math.nan]
    if option.kind is str:
        return [*others, 1, True, *bad_texts(option)]
    range_ = interval(option.within)
    beyond = [range_.low if range_.low_open else math.nextafter(range_.low, -math.inf)]
    beyond += [range_.high if range_.high_open else math.nextafter(range_.high, math.inf)]
    if option.kind is int:
        beyond = [math.floor(beyond[0]), math.ceil(beyond[1]), 1.5, 2**63, 2**70, -(2**70)]
    return [*others, True, "1", math.nan, math.inf, -math.inf, *beyond]


def bad_texts(option: Option) -> list[str]:
    """Texts that are no value of the option on a command line."""
    if option.kind is bool:
        return ["perhaps", "2", "nan"]
    if option.kind is not str:
        numbers = [value for value in bad_values(option) if type(value) in (int, float)]
        return [*map(repr, numbers), "many", "1e999"]
    texts = [""] if option.filled else []
    if option.names() and not option.path:
        texts += ["nonsense", "", next(iter(option.names())) + "_"]
    if option.path:
        paths = NO_FOLDERS if option.path == "folder" else NO_PATHS
        texts += [("text:" if option.path == "after" else "") + path for path in paths]
    return texts


def cases(config: str, folder: pathlib.Path) -> Iterator[Case]:
    """All cases.

    Args:
        config: a valid configuration file.
        folder: a directory for invalid ones. Work directories are named inside it and must not be created.
    """
    train = [f"--config={config}", f"--workdir={folder}/run"]
    for key, option in KEYS.items():
        yield from (Case("train", [*train, f"--config.{key}={text}"], key) for text in bad_texts(option))
        yield Case("train", [*train, f"--config.{key}{key[-1]}=1"], "has no key")
    yield from (Case("train", [*train, f"--config.{key}=1"], key.partition(".")[0]) for key in NO_KEYS)
    for name in NO_KERNELS:
        yield Case("train", [*train, f"--config.kernel.name={name}"], f"{name}'")
    for path in NO_WORKDIRS:
        yield Case("train", [train[0], f"--workdir={path}"], "--workdir=")
        yield from (Case(module, [f"--workdir={path}"], path[:20]) for module in ("generate", "evaluate"))
    yield from _of_files(folder)
    for module, names in FLAGS_OF.items():
        for name in names:
            for text in bad_texts({**FLAGS, **SAMPLING}[name]):
                given = [] if name == "workdir" else [f"--workdir={folder}/run"]
                yield Case(module, [*given, f"--{name}={text}"], f"{name}")


def _of_files(folder):
    for name, (content, word) in NO_CONFIGS.items():
        (folder / f"{name}.py").write_bytes(content)
        yield Case("train", [f"--config={folder}/{name}.py", f"--workdir={folder}/run"], word)
    for path in ("", ".", str(folder), "/dev/null", "/proc/self/mem", f"{folder}/none.py", "x" * 300, "gs://b/c.py"):
        yield Case("train", [f"--config={path}", f"--workdir={folder}/run"], "--config=")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        for case in cases("configs/quickstart.py", pathlib.Path(directory)):
            print(case)
