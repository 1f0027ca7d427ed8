"""The program of theory: tables, pages and plots of kernels under a run's data, and its refusals."""

import csv
import re
import shutil

import numpy as np
import pytest
import tiny
import toys

from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.theory import claims

FAST = ["--times=3", "--steps=8"]


def table(out, title):
    """{column: values} of the block that begins with this title."""
    _, head, *rows = next(block for block in out.split("\n\n") if block.startswith(title)).splitlines()
    columns = re.split("  +", head.strip())
    return dict(zip(columns, zip(*(row.split() for row in rows), strict=True), strict=True))


def test_kernels_side_by_side(config_file, tmp_path):
    """Masks beside the configuration's kernel: their closed forms in the tables; all kernels in the page and plots."""
    given = [f"--config={config_file}", "--beside=absorbing,", *FAST, f"--output={tmp_path}/theory.html"]
    result = tiny.command("theory", *given, f"--plots={tmp_path}/plots")
    assert result.status == 0, result.err
    counts = open_prepared(str(config_file.parent / "data")).unigram
    p = counts / counts.sum()
    masks = table(result.out, "absorbing: the posterior")
    times = np.array(masks["t"], float)
    np.testing.assert_allclose(times, [0.1127, 0.5, 0.8873], atol=1e-4)
    np.testing.assert_allclose(np.array(masks["d_act"], float), times * ((p > 0).sum() - 1), rtol=2e-3)
    np.testing.assert_allclose(np.array(masks["I1"], float), times * (1 - np.sum(p**2)), rtol=2e-3)
    assert set(table(result.out, "absorbing: a step back")["repair at most"]) == {"0"}
    assert float(table(result.out, "semdlm_plus: a step back")["lambda"][1]) > 0
    for name in ("semdlm_plus", "absorbing"):
        assert f"\n{name}: the odds of a cluster\n" in result.out
    page = (tmp_path / "theory.html").read_text()
    assert "absorbing: a step back" in page and page.count("<svg") == 5
    with open(tmp_path / "plots" / "h_t_entropy_of_the_posterior_nats.csv") as file:
        lines = {row["line"] for row in csv.DictReader(file)}
    assert lines == {"semdlm_plus", "absorbing"}


def test_without_neighbors(config_file, tmp_path):
    """What needs a table is left out, and told."""
    shutil.copytree(config_file.parent / "data", tmp_path / "data", ignore=shutil.ignore_patterns("*.npz"))
    result = tiny.command("theory", f"--config={config_file}:mdlm", f"--config.data.directory={tmp_path}/data", *FAST)
    assert result.status == 0 and "\nno odds of clusters, because no token has neighbors here: " in result.out, result
    assert "absorbing: a step back" in result.out and "the odds of a cluster" not in result.out


def test_a_sample_says_so(config_file):
    result = tiny.command("theory", f"--config={config_file}", *FAST, "--states=12")
    assert result.status == 0 and "a sample of 12 states" in result.out, result
    assert set(table(result.out, "semdlm_plus: a step back")["repair at least"]) == {"–"}


RATES_ALONE = """
import dataclasses
from two_digits import TwoDigits, TwoDigitsKernel
from semdlm_jax.kernels import MarkovKernel

class Kernel(TwoDigitsKernel):
    transitions = MarkovKernel.transitions

@dataclasses.dataclass(frozen=True)
class RatesAlone(TwoDigits):
    def build(self, vocabulary):
        return Kernel(vocabulary.size, self.columns, self.schedule)
"""


def test_kernels_of_ones_own(config_file, tmp_path, monkeypatch):
    """Named module:Class, by the configuration or beside it; one that has rates alone has all but steps."""
    monkeypatch.syspath_prepend(toys.EXAMPLES)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "rates_alone.py").write_text(RATES_ALONE)
    own = ["--config.kernel.name=mixed_noise:MixedNoise", "--config.kernel.uniform_part=0.7"]
    result = tiny.command("theory", f"--config={config_file}:udlm", *own, *FAST, "--beside=rates_alone:RatesAlone")
    assert result.status == 0 and "\nmixed_noise:MixedNoise: a step back" in result.out, result
    assert "\nrates_alone:RatesAlone: no steps back: Kernel has no `transitions`" in result.out
    assert "rates_alone:RatesAlone: a step back" not in result.out
    assert len(table(result.out, "rates_alone:RatesAlone: the posterior")["h"]) == 3


def test_claims(monkeypatch, tmp_path):
    one = claims.Claim("Proposition 9", "one is two", claims.FAILS, "it is not", {"one": 1.0, "two": 2.0})
    monkeypatch.setattr(claims, "claims", lambda: iter([one]))
    result = tiny.command("theory", "--claims", f"--output={tmp_path}/claims.html")
    assert (result.status, result.err) == (0, "")
    assert "Proposition 9: fails\nclaim: one is two\nwhy: it is not\n" in result.out and "two      2" in result.out
    assert "Proposition 9: fails" in (tmp_path / "claims.html").read_text()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["--config is missing"]),
        (["--claims", "--config={}"], ["--claims computes on a toy", "leave --config"]),
        (["--config={}", "--beside=unifrom"], ["--beside=unifrom", "did you mean 'uniform'"]),
        (["--config={}:ar"], ["no kernel", ":mdlm"]),
        (["--config={}", "--times=0"], ["--times=0", "[1, 256]"]),
        (["--config={}", "--epsilon=2"], ["--epsilon=2", "(0, 1)"]),
        (["--config={}", "--states=1"], ["--states=1"]),
        (["--config={}", "--config.data.directory=none"], ["none: no prepared data"]),
        (["--config={}", "--output=/proc/x.html"], ["--output=/proc/x.html"]),
    ],
)
def test_what_cannot_be(arguments, words, config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = tiny.command("theory", *(argument.format(config_file) for argument in arguments))
    tiny.assert_refused(result, *words)
    assert not result.out
