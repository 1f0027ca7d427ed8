"""What goes with a model of its data lays out rows as the data themselves do, under every protocol."""

import json
import pathlib

import numpy as np
import pytest

from semdlm_jax.data.conditioning import Condition, lay_out
from semdlm_jax.data.huggingface import HuggingFaceTokenizer
from semdlm_jax.data.packing import pack
from semdlm_jax.data.portable import open_portable, write_portable
from semdlm_jax.data.prepared import Prepared
from semdlm_jax.data.protocols import PROTOCOLS, make_rows
from semdlm_jax.errors import UserError

LENGTH = 12


@pytest.mark.parametrize("name", PROTOCOLS)
def test_rows(name, tmp_path):
    tokenizer = HuggingFaceTokenizer.of_bytes(True)
    stream = pack(["a long one, cut off", "short", "", "shorter", "abc"], tokenizer)
    unigram = np.bincount(stream, minlength=tokenizer.vocab_size)
    meta = {"settings": {"corpus_sha256": "0"}}
    prepared = Prepared(pathlib.Path("nowhere"), tokenizer, {"train": stream}, unigram, meta)
    rows = make_rows(name, stream, LENGTH, tokenizer)
    described = json.loads(json.dumps(write_portable(prepared, rows, tmp_path)))
    found = open_portable(tmp_path, described)
    copy = make_rows(name, found.splits["train"], LENGTH, found.tokenizer, found.starts("train"))
    np.testing.assert_array_equal(copy.sizes, rows.sizes)
    layouts = [lay_out([Condition()] * 8, one, np.random.default_rng(0)) for one in (rows, copy)]
    for first, second in zip(*layouts, strict=True):
        np.testing.assert_array_equal(first, second)
    assert (found.unigram == unigram).all() and found.tokenizer.fingerprint == tokenizer.fingerprint
    with pytest.raises(UserError, match="without the text of its valid split"):
        found.splits["valid"]
