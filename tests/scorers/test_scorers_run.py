"""A scorer by an autoregressive run: a text scores as it does in a row of the run's own."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from semdlm_jax.data.huggingface import HuggingFaceTokenizer
from semdlm_jax.errors import UserError
from semdlm_jax.network import Denoiser
from semdlm_jax.objectives import Autoregressive
from semdlm_jax.scorers import make_scorer, run

LENGTH = 8


@pytest.fixture(scope="module")
def trained():
    """What `load_trained` would give: a random causal network over bytes, whose scores differ from token to token."""
    tokenizer = HuggingFaceTokenizer.of_bytes(False)
    denoiser = Denoiser(tokenizer.vocab_size, width=16, layers=1, heads=2, condition_width=8, causal=True)
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(denoiser.init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: jnp.array(rng.normal(scale=0.2, size=leaf.shape), leaf.dtype), shapes)
    return SimpleNamespace(
        config=SimpleNamespace(data=SimpleNamespace(protocol="packed", length=LENGTH)),
        corpus=SimpleNamespace(prepared=SimpleNamespace(tokenizer=tokenizer)),
        objective=Autoregressive(tokenizer.mask_id),
        denoiser=denoiser,
        params=params,
        step=12,
    )


@pytest.mark.usefixtures("quick_compile")
@pytest.mark.parametrize("protocol", ["packed", "padded"])
def test_text_scores_as_in_the_runs_own_rows(protocol, trained, monkeypatch):
    trained.config.data.protocol = protocol
    given = {}
    monkeypatch.setattr(run, "load_trained", lambda *place, **options: given.update(options) or trained)
    scorer = make_scorer("run:somewhere", data_directory="there")
    assert given == {"data_directory": "there", "trust_code": False}
    assert scorer.name.startswith("run:somewhere (autoregressive, step 12, EMA weights")
    text = "abcdefgh, "
    found = scorer.score(["", text])
    tokenizer, framed = trained.corpus.prepared.tokenizer, protocol == "padded"
    ids, room = tokenizer.encode(text), LENGTH - 2 * framed
    rows = np.full((2, LENGTH), tokenizer.pad_id)
    for row, start in zip(rows, range(0, len(ids), room), strict=True):
        inner = [tokenizer.bos_id] * framed + ids[start : start + room].tolist()
        row[: len(inner)] = inner
    before = np.insert(rows[:, :-1], 0, trained.objective.start_id, axis=1)
    logits = jax.jit(trained.denoiser.apply)(trained.params, before, jnp.zeros(2))
    scored = (rows != tokenizer.pad_id) & (rows != tokenizer.bos_id)
    nats = np.asarray(trained.objective.log_losses(logits, rows))[scored].sum()
    assert found.tokens.tolist() == [0, len(text)] and scored.sum() == len(text)
    np.testing.assert_allclose(found.nll, [0, nats], rtol=1e-5)
    assert f"every {room} tokens" in scorer.protocol and "run's own rows" in scorer.protocol


def test_runs_that_score_no_text(trained, monkeypatch):
    monkeypatch.setattr(run, "load_trained", lambda *_, **__: trained)
    trained.corpus.prepared = None
    with pytest.raises(UserError, match="run:x was trained on random tokens"):
        make_scorer("run:x")
    trained.objective, trained.config.objective = object(), SimpleNamespace(name="denoising")
    with pytest.raises(UserError, match="'denoising' predicts no token .* give a run .*objective.name=autoregressive"):
        make_scorer("run:x")
