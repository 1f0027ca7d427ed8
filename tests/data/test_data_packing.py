import numpy as np
import pytest

from semdlm_jax.data import files, packing


class Letters:
    """A tokenizer of single letters, to compare with."""

    bos_id, eos_id, newline_id, keeps_space, vocab_size = 2, 3, None, False, 100

    def encode_batch(self, texts):
        return [np.array([ord(letter) - 90 for letter in text], np.int32) for text in texts]

    def decode(self, ids):
        return "".join(chr(i + 90) for i in np.asarray(ids, int))


def test_documents_are_framed_and_joined():
    stream = packing.pack(["ab", "", "c"], Letters())
    assert stream.tolist() == [2, 7, 8, 3, 2, 3, 2, 9, 3]
    assert stream.dtype == np.uint16
    assert packing.unpack(stream, Letters()) == ["ab", "", "c"]
    assert packing.pack([], Letters()).shape == (0,)


def test_a_large_text_is_encoded_bit_by_bit(monkeypatch):
    """And what is done is told from the start of the work on."""
    done, alone = [], packing.pack(["abcde\n" * 50, "cd"], Letters())
    monkeypatch.setattr(files, "PART", 12)
    monkeypatch.setattr(packing, "BATCH_CHARACTERS", 100)
    stream = packing.pack(["abcde\n" * 50, "cd"], Letters(), done.append)
    assert stream.tolist() == alone.tolist() and done == [108, 216, 302]


@pytest.mark.parametrize("vocab_size, dtype", [(512, np.uint16), (65_536, np.uint16), (65_537, np.int32)])
def test_dtype_holds_every_id(vocab_size, dtype):
    assert packing.token_dtype(vocab_size) == dtype
    assert vocab_size - 1 <= np.iinfo(packing.token_dtype(vocab_size)).max
