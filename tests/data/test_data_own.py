"""Corpora and tokenizers of a user's own: what they must offer, and what is told where they do not."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest

from semdlm_jax import keys
from semdlm_jax.data import prepare
from semdlm_jax.data.corpora import Corpus, CorpusSpec, load_corpus
from semdlm_jax.data.documents import Streamed
from semdlm_jax.data.packing import unpack
from semdlm_jax.data.prepared import open_prepared
from semdlm_jax.data.tokenizer import OwnTokenizer
from semdlm_jax.data.tokenizers import TokenizerSpec, given_tokenizer, load_tokenizer
from semdlm_jax.data.unknown import unknown_pieces
from semdlm_jax.errors import UserError
from semdlm_jax.options import number
from semdlm_jax.plugins import field

TEXTS = ("ab\ncd", "abcd ", " ad")


@dataclasses.dataclass(frozen=True)
class Letters(OwnTokenizer):
    """A letter a piece."""

    shift: int = 0
    more: tuple = ()

    def ids_of(self, text):
        return [self.vocabulary.index(c) + self.shift if c in self.vocabulary else self.unk_id for c in text]

    def text_of(self, ids):
        return "".join(self.vocabulary[i] for i in ids)


@dataclasses.dataclass(frozen=True)
class Alphabet(TokenizerSpec):
    """The letters of the text up to a last one."""

    last: str = "z"

    def build(self, text):
        return Letters(tuple(sorted({c for part in text for c in part if c <= self.last})), self.lowercase)


@dataclasses.dataclass(frozen=True)
class Same(CorpusSpec):
    """The same texts in every split."""

    copies: int = field(number(2, "[1, 9]", "of each"))

    def load(self):
        return Streamed(lambda: ((s, [t]) for s in ("train", "valid", "test") for t in TEXTS * self.copies))


@dataclasses.dataclass(frozen=True)
class Wrong(CorpusSpec):
    """What is no corpus."""

    what: str = "list"

    def load(self):
        wrong = {
            "split": Streamed(lambda: [("training", ["a"])]),
            "string": Streamed(lambda: [("train", "a")]),
            "number": Corpus((1,), ("a",), ("b",)),
            "empty": Corpus(("a",), (), ("b",)),
            "generator": Corpus((text for text in "ab"), ("a",), ("b",)),
            "letters": Corpus("ab", ("a",), ("b",)),
            "parts": Streamed(lambda: [("train", [5])]),
            "read": Streamed(lambda: 1 / 0),
            "parts fail": Streamed(lambda: [("train", (1 / n for n in (0, 1)))]),
            "no parts": Streamed(lambda: [("train", None)]),
            "half a pair": Streamed(lambda: [("train", ["a\ud800"])]),
            "half a pair in memory": Corpus(("a",), ("\udc00b",), ("c",)),
            "lost": Corpus(("a",), ("b",), ("c",), files=("/nonexistent",)),
        }
        return wrong[self.what] if self.what != "list" else []


@dataclasses.dataclass(frozen=True)
class Unwritten(CorpusSpec):
    """Without its method."""


@dataclasses.dataclass(frozen=True)
class Listing(TokenizerSpec):
    """What is no tokenizer."""

    def build(self, text):
        return list(text)


@dataclasses.dataclass(frozen=True)
class Mute(Letters):
    """A tokenizer that gives no text."""

    def text_of(self, ids):
        return 5


@dataclasses.dataclass(frozen=True)
class Muted(TokenizerSpec):
    """What is read and cannot be written."""

    def build(self, text):
        return Mute(("a", "b"))


@dataclasses.dataclass(frozen=True)
class Hidden(TokenizerSpec):
    """A tokenizer whose class nobody finds again."""

    def build(self, text):
        class Inner(Letters):
            pass

        return Inner(("a",))


HERE = __name__


def test_they_are_prepared_with_their_options(tmp_path):
    made = prepare.prepare(load_corpus(f"{HERE}:Same", {"copies": 3}), tmp_path / "data", 9, True, tokenizer="bytes")
    assert made.meta["settings"]["copies"] == 3 and made.meta["documents"]["test"] == 9
    assert made.meta["origin"] == f"{HERE}:Same" and "vocab_size" not in made.meta["settings"]
    corpus, name = load_corpus(f"{HERE}:Same"), f"{HERE}:Alphabet"
    made = prepare.prepare(corpus, tmp_path / "own", 9, False, tokenizer=name, last="c")
    assert made.tokenizer == Letters(("\n", " ", "a", "b", "c"), False)
    assert unpack(made.splits["test"], made.tokenizer) == ["ab\nc", "abc ", " a"] * 2
    assert prepare.prepare(corpus, tmp_path / "own", 9, False, tokenizer=name, last="c").meta == made.meta
    with pytest.raises(UserError, match=r"last \('c', now 'd'\)"):
        prepare.prepare(corpus, tmp_path / "own", 9, False, tokenizer=name, last="d")
    with pytest.raises(UserError, match="has no option 'lst': it has .*did you mean 'last'"):
        prepare.prepare(corpus, tmp_path / "own", 9, False, tokenizer=name, lst="d")


def test_a_tokenizer_of_ones_own_offers_the_interface(tmp_path):
    tokenizer = Letters(("a", "b", "\n", " "), True)
    V = tokenizer.vocab_size
    assert V == len(tokenizer.pieces) == len(tokenizer.texts) == 9 and tokenizer.special_ids == (4, 5, 6, 7, 8)
    roles = tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id
    assert roles == tokenizer.special_ids and not any(tokenizer.texts[i] for i in roles)
    assert tokenizer.starts_word.tolist() == [True, True] + [False] * 7
    ids = tokenizer.encode("Ab x\nB")
    assert ids.dtype == np.int32 and ids.tolist() == [0, 1, 3, tokenizer.unk_id, 2, 1]
    assert tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.pad_id]) == "ab \nb"
    assert tokenizer.encode("").shape == (0,) and tokenizer.newline_id == 2 and tokenizer.keeps_space
    assert unknown_pieces(tokenizer, "ab cx").words == ("cx",)
    assert tokenizer.fingerprint not in {Letters(("a", "b"), True).fingerprint, Letters(("a", "b"), False).fingerprint}
    tokenizer.save(tmp_path / tokenizer.FILE)
    again = load_tokenizer(tmp_path)
    assert again == tokenizer and again.fingerprint == tokenizer.fingerprint


def test_the_example_of_the_docs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(pathlib.Path(__file__).parents[2] / "docs" / "examples")
    corpus = load_corpus("sums:Sums", {"below": 20})
    for backwards, first in ((True, "91+"), (False, "19+")):
        folder = tmp_path / str(backwards)
        made = prepare.prepare(corpus, folder, 9, True, tokenizer="sums:Digits", backwards=backwards)
        assert made.tokenizer.vocabulary == tuple("+0123456789=") and made.meta["documents"]["train"] == 360
        assert "".join(made.tokenizer.pieces[i] for i in made.tokenizer.encode("19+2=21"))[:3] == first
        assert unpack(made.splits["valid"], made.tokenizer) == list(corpus.valid)


def test_a_saved_tokenizer_runs_no_code_that_nobody_imported(tmp_path, monkeypatch):
    (tmp_path / "harmful.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / Letters.FILE
    path.write_text(json.dumps({"class": "harmful:Letters", "fields": {}}))
    with pytest.raises(UserError, match="code of whoever prepared the text, harmful:Letters: name it in"):
        load_tokenizer(tmp_path)
    other = json.dumps({"class": f"{HERE}:Letters", "fields": {"other": 1}})
    for text in ("{", '{"class": 1}', '{"class": 5, "fields": {}}', "[" * 100_000, other):
        path.write_text(text)
        with pytest.raises(UserError, match="cannot read the tokenizer .*prepare the data again"):
            load_tokenizer(tmp_path)
    path.write_text(json.dumps({"class": "semdlm_jax.errors:UserError", "fields": {}}))
    with pytest.raises(UserError, match="is no tokenizer class"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Letters(()), "Letters: its vocabulary is empty"),
        (lambda: Letters(("a", "a")), "holds a piece twice"),
        (lambda: Letters(["a"]), "no tuple of texts"),
        (lambda: Letters(("a", "")), "no tuple of texts"),
        (
            lambda: Letters(("a", "b"), True, 1).encode("b"),
            r"ids_of gives \[2\] for 'b': give whole numbers from 0 to 1",
        ),
        (lambda: Letters(("a",), True, -1).encode("a"), r"ids_of gives \[-1\]"),
        (lambda: Letters(("a",), True, 0.5), "shift = 0.5 is not a whole number"),
        (lambda: Letters(("a",), True, more={1}).fingerprint, "its field 'more' cannot be saved"),
        (lambda: Letters(("a",), True, more=[1]).fingerprint, "its field 'more' cannot be saved"),
        (lambda: load_corpus(f"{HERE}:Wrong"), r"its load\(\) returns list"),
        (lambda: load_corpus(f"{HERE}:Wrong", {"what": "number"}), "a document of its train split is no str"),
        (lambda: load_corpus(f"{HERE}:Wrong", {"what": "empty"}), "leaves no text for valid"),
        (lambda: list(load_corpus(f"{HERE}:Wrong", {"what": "split"}).parts()), "gives .'training', .* as a document"),
        (lambda: list(load_corpus(f"{HERE}:Wrong", {"what": "string"}).parts()), "gives .* its split one of train"),
        (lambda: load_corpus(f"{HERE}:Wrong", {"what": "generator"}), "its train split is a generator: give a tuple"),
        (lambda: load_corpus(f"{HERE}:Wrong", {"what": "letters"}), "its train split is a str: give a tuple"),
        (lambda: list(load_corpus(f"{HERE}:Wrong", {"what": "parts"}).parts()), "5 of its train split is no str"),
        (
            lambda: list(load_corpus(f"{HERE}:Wrong", {"what": "read"}).parts()),
            r"Wrong' failed \(ZeroDivisionError division by zero, test_data_own.py line \d+\): mend its code",
        ),
        (
            lambda: prepare.prepare(load_corpus(f"{HERE}:Wrong", {"what": "parts fail"}), "x", 9, True),
            r"Wrong' failed \(ZeroDivisionError",
        ),
        (lambda: list(load_corpus(f"{HERE}:Wrong", {"what": "no parts"}).documents()), r"Wrong' failed \(TypeError"),
        (
            lambda: list(load_corpus(f"{HERE}:Wrong", {"what": "half a pair"}).parts()),
            r"Wrong': 'a\\ud800' of its train split holds half a surrogate pair",
        ),
        (
            lambda: list(load_corpus(f"{HERE}:Wrong", {"what": "half a pair in memory"}).parts()),
            r"Wrong': '\\udc00b' of its valid split holds half a surrogate pair",
        ),
        (
            lambda: load_corpus(f"{HERE}:Wrong", {"what": "none"}),
            r"Wrong failed in load \(KeyError 'none', test_data_own.py line \d+\): mend its code",
        ),
        (
            lambda: prepare.prepare(load_corpus(f"{HERE}:Wrong", {"what": "lost"}), "x", 9, True, tokenizer="bytes"),
            "its file /nonexistent cannot be read",
        ),
        (lambda: prepare.prepare(Corpus(*[("a",)] * 3), "x", 9, True, tokenizer=f"{HERE}:Hidden"), "found again"),
        (
            lambda: prepare.prepare(Corpus(*[("a",)] * 3), "x", 9, True, tokenizer=f"{HERE}:Muted"),
            "Mute: its text_of returns 5: return a str",
        ),
        (lambda: load_corpus(f"{HERE}:Unwritten"), "lacks the method load"),
        (lambda: load_corpus(f"{HERE}:Letters"), "is no corpus: give a frozen dataclass that extends .*CorpusSpec"),
        (lambda: load_corpus("tex:books"), "there is no module tex here.*did you mean 'text'"),
        (lambda: load_corpus("tex:books/*"), "unknown corpus 'tex' .*did you mean 'text'"),
        (lambda: load_corpus("synthetic"), "there is nothing to prepare"),
        (lambda: given_tokenizer("token:x", True), "token has no x"),
        (lambda: prepare.prepare(Corpus(*[("a",)] * 3), "x", 9, True, tokenizer=f"{HERE}:Listing"), "returns list"),
    ],
)
def test_what_is_none_is_told(make, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        make()


def test_a_name_of_the_package_comes_before_a_module(tmp_path, monkeypatch):
    """What is read is the package's; where it is not there, the module of that name is told."""
    (tmp_path / "text.py").write_text("raise SystemExit('run')\n\n\nclass Poems:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no file matches.*for your class Poems rename its module text"):
        load_corpus("text:Poems")
    with pytest.raises(UserError) as told:
        load_corpus("text:Prose")
    assert "rename" not in str(told.value) and "text" not in sys.modules
    (tmp_path / "Poems").write_text("one\n\ntwo\n\nthree")
    assert load_corpus("text:Poems").origin == "1 text file matching Poems"


@pytest.mark.parametrize(
    ("section", "key", "plugin"),
    [
        ("data", "data.tokenizer", "vocab_size"),
        ("data", "data.corpus", "directory"),
        ("kernel", "kernel.name", "gamma"),
    ],
)
def test_an_option_with_the_name_of_another_key_is_refused(section, key, plugin, tmp_path, monkeypatch):
    module = f"clashing_{plugin}"
    bases = {"data.tokenizer": "data.tokenizers:TokenizerSpec", "data.corpus": "data.corpora:CorpusSpec"}
    where, base = bases.get(key, "kernels:KernelSpec").split(":")
    source = (
        f"import dataclasses\nfrom semdlm_jax.{where} import {base}\nfrom semdlm_jax import keys\n"
        "from semdlm_jax.plugins import field\n\n\n@dataclasses.dataclass(frozen=True)\nclass Mine({base}):\n"
        "    {plugin}: object = {value}\n\n    def build(self, text):\n        pass\n\n    load = build\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"{module}.py").write_text(source.format(base=base, plugin=plugin, value="3"))
    with pytest.raises(UserError, match=f"has an option '{plugin}', but {section}.{plugin} is a key of another"):
        keys.users_options({key: f"{module}:Mine"})
    same = f'field(keys.KEYS["{section}.{plugin}"])'  # the same option: one key for both
    (tmp_path / f"{module}_same.py").write_text(source.format(base=base, plugin=plugin, value=same))
    assert keys.users_options({key: f"{module}_same:Mine"}) == {}


def test_data_whose_code_is_not_loaded_are_not_called_broken(tmp_path, monkeypatch):
    """Whoever followed the advice to remove them would lose them."""
    prepare.prepare(Corpus(*[("ab",)] * 3), tmp_path / "data", 9, True, tokenizer=f"{HERE}:Alphabet")
    monkeypatch.delitem(sys.modules, HERE)
    with pytest.raises(UserError) as told:
        open_prepared(tmp_path / "data")
    assert "name it in data.tokenizer" in str(told.value) and "remove" not in str(told.value)
