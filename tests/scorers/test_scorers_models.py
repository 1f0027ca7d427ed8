"""The networks against loops in float64, with what batches and windows change."""

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file
from toy_models import BASE, CONFIGS, CONTEXT, END, ids_of, states, surprises, weights, write_model

from semdlm_jax.scorers import make_scorer
from semdlm_jax.scorers.llama import Llama
from semdlm_jax.scorers.reading import Settings

pytestmark = pytest.mark.usefixtures("quick_compile")

LONG = "the cat sat; " * 7
TEXTS = ["the then 12", "a", "", "Größe of the cat, the hat", LONG]
# kind -> options: all of a model's context behind a begin token, and a window of an odd length without one.
OPTIONS = {"llama": {}, "gpt2": {"bos": False, "context": 27}}
WINDOW = {"llama": CONTEXT - 1, "gpt2": 27}


@pytest.fixture(scope="module", params=OPTIONS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tmp_path_factory):
    return write_model(tmp_path_factory.mktemp(kind) / "model", kind)


@pytest.fixture(scope="module")
def scorer(folder, kind):
    return make_scorer(f"hf:{folder}", **OPTIONS[kind])


def by_loops(kind, text):
    """(nats, scored tokens, mean of the states [D]) of a text, a window at a time."""
    ids, begin, parts = ids_of(text), [0] * ("bos" not in OPTIONS[kind]), []
    for start in range(0, len(ids), WINDOW[kind]):
        row = begin + ids[start : start + WINDOW[kind]]
        hidden, logits = states(kind, weights(kind), row)
        parts.append((sum(surprises(logits, row)), len(row) - 1, hidden[len(begin) :].sum(axis=0) / len(ids)))
    return [sum(part) for part in zip(*parts)]


def test_scores_and_features_are_those_of_loops(kind, scorer):
    found = scorer.score(TEXTS)
    assert len(ids_of(LONG)) > 2 * WINDOW[kind]
    for index, text in enumerate(TEXTS):
        nats, tokens, mean = by_loops(kind, text) if text else (0, 0, 0)
        assert found.tokens[index] == tokens
        np.testing.assert_allclose(found.nll[index], nats, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.features[index], mean, rtol=1e-4, atol=1e-4)
    assert found.nll.dtype == np.float64 and found.features.dtype == np.float32
    np.testing.assert_allclose(found.perplexity, np.exp(found.nll.sum() / found.tokens.sum()))


def test_a_text_scores_the_same_alone_and_among_others(scorer, capsys):
    together = scorer.score(TEXTS)
    told = capsys.readouterr().err.splitlines()
    alone = scorer.score(TEXTS[3:4])
    np.testing.assert_allclose(alone.nll[0], together.nll[3], rtol=2e-6)
    np.testing.assert_allclose(alone.features[0], together.features[3], atol=2e-6)
    read = int(told[0].rpartition("/")[2])
    assert (
        read >= together.tokens.sum() and told[0] == f"score 0/{read}" and told[-1].startswith(f"score {read}/{read}")
    )


def test_no_tokens_at_all(scorer):
    found = scorer.score(["", ""])
    assert (found.nll.tolist(), found.tokens.tolist(), found.perplexity) == ([0, 0], [0, 0], None)


def test_the_rotary_base_stands_in_one_of_two_places():
    former = CONFIGS["llama"]
    newer = {key: value for key, value in former.items() if key != "rope_theta"}
    newer["rope_parameters"] = {"rope_type": "default", "rope_theta": BASE}
    assert [Llama.of(Settings("", config)).base for config in (former, newer)] == [BASE, BASE]


def test_text_that_spells_the_end_token_holds_it(scorer):
    (ids,) = scorer.model.encode([f"a{END}b"])
    assert ids.tolist() == [*ids_of("a"), 0, *ids_of("b")] and scorer.model.end_id == 0


def test_weights_in_parts_with_other_names_and_masks(kind, scorer, tmp_path):
    given = weights(kind)
    if kind == "gpt2":
        given = {f"transformer.{name}": array for name, array in given.items()}
        given |= {"lm_head.weight": given["transformer.wte.weight"].copy()}
        given |= {"transformer.h.0.attn.bias": np.ones((1, 1, CONTEXT, CONTEXT), np.uint8)}
    folder, names = write_model(tmp_path / "snapshots" / "0123456789abcdef", kind), sorted(given)
    (folder / "model.safetensors").unlink()
    for part, chosen in enumerate((names[::2], names[1::2]), 1):
        save_file({name: given[name] for name in chosen}, folder / f"model-0000{part}-of-00002.safetensors")
    other = make_scorer(f"hf:{folder}")
    jax.tree.map(np.testing.assert_array_equal, other.model.params, scorer.model.params)
    assert "(commit 0123456789ab, " in other.name


def test_name_and_protocol(kind, folder, scorer):
    count = sum(array.size for array in weights(kind).values())
    assert scorer.name.startswith(f"hf:{folder} (") and f"2 layers of width 32, {count:,} parameters" in scorer.name
    first = f"{END} stands before" if kind == "llama" else "first token of a window is not scored"
    for words in ("retokenized", f"every {WINDOW[kind]} tokens", first, "exp(sum of NLL", "float32"):
        assert words in scorer.protocol
