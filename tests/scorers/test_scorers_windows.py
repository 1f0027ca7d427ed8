"""How texts become rows, and how these become batches."""

import numpy as np

from semdlm_jax.scorers.windows import Window, cut, map_windows


def test_of_end_tokens_the_first_of_a_window_counts():
    ids = [np.array([5, 0, 6, 0, 7, 0], np.int32)]
    (bare,), framed = cut(ids, (), 6, 0), cut(ids, (0,), 5, 0)
    assert bare.counted.tolist() == [False, True, True, False, True, False] and bare.read.all()
    assert [window.tokens.tolist() for window in framed] == [[0, 5, 0, 6, 0], [0, 7, 0]]
    assert [window.counted.tolist() for window in framed] == [
        [False, True, False, True, False],
        [False, True, False],
    ]
    assert [window.read.sum() for window in framed] == [4, 2]


def test_batches_of_like_length_in_few_shapes():
    """13 windows of up to 32 positions, 6 of up to 40, which is all that there could be; 64 tokens at once."""
    shapes, lengths = [], [*range(20, 33), *range(34, 40)]

    def program(rows):
        shapes.append(rows["tokens"].shape)
        assert not np.asarray(rows["read"])[np.asarray(rows["tokens"]) == 0].any()
        return rows["tokens"].max(axis=1), rows["read"].sum(axis=1)

    def window(text, length):
        return Window(text, np.full(length, text + 1, np.int32), np.ones(length, bool), np.ones(length, bool))

    found = list(map_windows(program, [window(*one) for one in enumerate(lengths)], 40, 64, "test"))
    assert shapes == [(1, 40)] * 6 + [(2, 32)] * 7
    assert sorted((one.text, token, length) for one, token, length in found) == [
        (text, text + 1, length) for text, length in enumerate(lengths)
    ]
    shapes.clear()
    list(map_windows(program, [window(0, 1)] * 5, 40, 8192, "test"))
    assert shapes == [(8, 16)]
