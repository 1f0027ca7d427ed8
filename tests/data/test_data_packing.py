import numpy as np
import pytest

from semdlm_jax.data import packing


class Letters:
    """A tokenizer of single letters, to compare with."""

    bos_id, eos_id, vocab_size = 2, 3, 100

    def encode(self, text):
        return np.array([ord(letter) - 90 for letter in text], np.int32)

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


def test_cyclic_windows_against_a_repeated_stream():
    tokens = np.arange(10, dtype=np.uint16)
    for start in range(25):
        window = packing.cyclic_window(tokens, start, 7)
        assert window.dtype == np.int32
        np.testing.assert_array_equal(window, np.tile(tokens, 4)[start : start + 7])


def test_ordered_windows_pad_beyond_the_end():
    tokens, mask = packing.ordered_windows(np.arange(1, 11, dtype=np.uint16), 4, first=1, count=3)
    assert tokens.tolist() == [[5, 6, 7, 8], [9, 10, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(mask, tokens > 0)
