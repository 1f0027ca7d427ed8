import numpy as np
import pytest

from semdlm_jax.data import packing


class Letters:
    """A tokenizer of single letters, to compare with."""

    bos_id, eos_id, vocab_size = 2, 3, 100

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


@pytest.mark.parametrize("vocab_size, dtype", [(512, np.uint16), (65_536, np.uint16), (65_537, np.int32)])
def test_dtype_holds_every_id(vocab_size, dtype):
    assert packing.token_dtype(vocab_size) == dtype
    assert vocab_size - 1 <= np.iinfo(packing.token_dtype(vocab_size)).max
