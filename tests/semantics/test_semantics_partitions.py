"""Nested partitions: what every one must be, planted clusters, tokens without a vector, the random control."""

import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.kernels import Vocabulary
from semdlm_jax.semantics import kmeans, partition_report
from semdlm_jax.semantics.partitions import build_partitions, fitting_levels
from semdlm_jax.semantics.settings import TableSettings
from semdlm_jax.semantics.table import Notes, Table

V, E, SPECIAL = 605, 16, np.arange(605) < 5
COUNTS = np.random.default_rng(5).permutation(V) + 1


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def skewed(known):
    """Half of the tokens lie close together, where plain k-means would make blocks of very unlike sizes; some of the
    tokens of text have no vector."""
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((V, E))
    vectors[: V // 2] = vectors[0] + 0.1 * vectors[: V // 2]
    return unit(vectors) * (rng.random((V, 1)) < known) * ~SPECIAL[:, None]


def planted(seed):
    """(vectors, fine [V], coarse [V]): 12 clusters in 3 groups, in any order."""
    rng = np.random.default_rng(seed)
    fine = rng.permutation(np.arange(V) % 12)
    groups, clusters = rng.standard_normal((2, 12, 40))
    centers = unit(groups)[np.arange(12) % 3] + 0.7 * unit(clusters)
    return unit(centers[fine] + 0.05 * rng.standard_normal((V, 40))), fine, fine % 3


def same(one, other):
    """Whether two partitions are the same but for the numbers of their blocks."""
    pairs = len(np.unique(np.stack([one, other]), axis=1).T)
    return pairs == len(np.unique(one)) == len(np.unique(other))


@pytest.mark.parametrize("known", [0, 0.1, 0.7, 1])
@pytest.mark.parametrize("levels", [(40, 12, 3), (300, 2, 1), (7,)])
def test_partitions_nest_and_cover_within_limits(levels, known):
    """The finest blocks have half to twice the mean number of tokens, coarser ones of finer blocks, up to rounding."""
    vectors = skewed(known)
    found = build_partitions(vectors, COUNTS, SPECIAL, levels)
    Vocabulary(V, 4, partitions=found)  # which checks that they nest
    assert found.shape == (len(levels), V) and found.dtype == np.int32
    for level, blocks in zip(found, levels, strict=True):
        assert (level[SPECIAL] == blocks).all() and set(level[~SPECIAL]) == set(range(blocks))
    meant = vectors.any(1)
    for tokens in (meant, ~meant & ~SPECIAL):
        sizes = np.unique(found[0, tokens], return_counts=True)[1] if tokens.any() else np.ones(1)
        assert sizes.min() >= sizes.mean() / 2 - 1 and sizes.max() <= sizes.mean() * 2 + 1
    for fine, coarse in zip(found, found[1:], strict=False):
        joined = np.unique(np.stack([fine, coarse])[:, meant], axis=1)[1]
        sizes = np.unique(joined, return_counts=True)[1] if len(joined) else np.ones(1)
        assert sizes.min() >= sizes.mean() / 2 - 1 and sizes.max() <= sizes.mean() * 2 + 1


@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_are_found(seed):
    vectors, fine, coarse = planted(seed)
    found = build_partitions(vectors, COUNTS, SPECIAL, (12, 3), seed=seed)
    assert same(found[0, ~SPECIAL], fine[~SPECIAL]) and same(found[1, ~SPECIAL], coarse[~SPECIAL])


def test_tokens_without_a_vector_lie_with_those_of_like_frequency():
    vectors = skewed(0.5)
    found = build_partitions(vectors, COUNTS, SPECIAL, (40, 12))
    without = ~vectors.any(1) & ~SPECIAL
    for level in found:
        assert not set(level[without]) & set(level[vectors.any(1)])
        often = level[without][np.argsort(-COUNTS[without])]
        assert (np.diff(often) >= 0).all()  # each block a range of counts
    sizes = np.bincount(found[0, without])
    assert np.ptp(sizes[sizes > 0]) <= 1


def test_the_same_blocks_in_whatever_order_products_are_summed():
    """As another number of threads sums them, or another machine."""
    vectors = skewed(0.8)
    found = build_partitions(vectors, COUNTS, SPECIAL, (40, 12))
    np.testing.assert_array_equal(build_partitions(vectors[:, ::-1], COUNTS, SPECIAL, (40, 12)), found)
    assert not np.array_equal(build_partitions(vectors, COUNTS, SPECIAL, (40, 12), seed=1), found)


def test_random_blocks_have_the_same_sizes_and_nothing_in_common():
    vectors = planted(0)[0]
    vectors = unit(vectors - vectors.mean(0))
    found, control = (build_partitions(vectors, COUNTS, SPECIAL, (12, 3), kind) for kind in ("kmeans", "random"))
    Vocabulary(V, 4, partitions=control)
    for level, random in zip(found, control, strict=True):
        np.testing.assert_array_equal(np.bincount(level), np.bincount(random))
        assert (random[SPECIAL] == random.max()).all()
        assert partition_report.coherence(level, vectors)[:-1].min() > 0.3
        assert abs(partition_report.coherence(random, vectors)[:-1]).max() < 0.06  # 50 tokens a block: 0.02 at random


def test_many_blocks_are_made_in_two_steps(monkeypatch):
    monkeypatch.setattr(kmeans, "WIDEST", 8)
    found = build_partitions(skewed(1), COUNTS, SPECIAL, (40,))[0]
    sizes = np.bincount(found)[:-1]
    assert len(sizes) == 40 and 600 / 40 / 4 <= sizes.min() and sizes.max() <= 4 * 600 / 40


def test_who_moves_when_a_center_is_full_or_empty():
    """By hand: of the points at center 0 the first loses least to center 1 (0.1), the second to center 2 (0.6)."""
    similarities = np.array([[0.9, 0.8, 0.1], [0.9, 0.7, 0.3], [0.9, 0.4, 0.2], [0.1, 0.9, 0.0]])
    np.testing.assert_array_equal(kmeans.limited(similarities, 0, 3), [0, 0, 0, 1])
    np.testing.assert_array_equal(kmeans.limited(similarities, 0, 2), [1, 0, 0, 1])
    np.testing.assert_array_equal(kmeans.limited(similarities, 1, 2), [1, 2, 0, 1])
    np.testing.assert_array_equal(kmeans.limited(similarities, 1, 3), [0, 2, 0, 1])


def test_default_levels_that_do_not_fit_are_left_out_and_others_refused():
    assert fitting_levels((256, 64, 16), 512) == (256, 64, 16)
    assert fitting_levels((256, 64, 16), 511) == (64, 16)
    assert fitting_levels((256, 64, 16), 31) == () == fitting_levels((), 31)
    assert fitting_levels((100, 2), 200) == (100, 2)
    with pytest.raises(UserError, match="semantics.blocks = '101,2' for 200 tokens of text: give at most 100 blocks"):
        fitting_levels((101, 2), 200)
    with pytest.raises(UserError, match="601 blocks of 600 tokens of text: give fewer"):
        build_partitions(skewed(1), COUNTS, SPECIAL, (601,))


@pytest.mark.parametrize("blocks", ["16,64", "64,64", "64,x", "0", "-3", "1.5", "64,,16", "٣"])
def test_impossible_blocks_are_told(blocks):
    with pytest.raises(UserError, match=f"semantics.blocks = '{blocks}' is not possible: give whole numbers that fall"):
        TableSettings(blocks=blocks)


def test_settings_of_partitions():
    assert TableSettings(blocks=" 8, 2 ").levels == (8, 2) and TableSettings(blocks="").levels == ()
    with pytest.raises(UserError, match="'kmean' is unknown: did you mean 'kmeans'"):
        TableSettings(partition="kmean")
    with pytest.raises(UserError, match="semantics.partition = 'random' has no blocks: give semantics.blocks, too"):
        TableSettings(partition="random", blocks="")


PIECES = ("[PAD]", "king", "queen", "duke", "red", "blue", ",", ".")
VECTORS = np.array([[0, 0], [1, 0], [0.8, 0.6], [0.6, 0.8], [-1, 0], [-1, 0], [0, 0], [0, 0]])
BLOCKS = np.array([[3, 0, 0, 0, 1, 1, 2, 2], [1, 0, 0, 0, 0, 0, 0, 0]])
NOTES = Notes(PIECES, np.array([9, 1, 2, 3, 5, 6, 8, 7]), np.ones(8, bool))
TABLE = Table(np.zeros((8, 1)), np.zeros((8, 1)), VECTORS, None, BLOCKS)


def test_coherence_by_hand():
    """The mean cosine of the pairs: 0.8, 0.6 and 0.96; 1; none in a block without vectors, nor among specials."""
    found = partition_report.coherence(BLOCKS[0], VECTORS)
    np.testing.assert_allclose(found, [(0.8 + 0.6 + 0.96) / 3, 1, np.nan, np.nan])


def test_a_report_by_hand():
    lines = partition_report.inspect(TABLE, NOTES, ["queen", "[PAD]"], shown=2).splitlines()
    assert lines[:6] == [
        "           queen (queen) lies in",
        "    block 0 of 3 (3 tokens): duke, queen, …",
        "    block 0 of 1 (7 tokens): ',', '.', …".replace("'", ""),
        "           [PAD] ([PAD]) lies in",
        "    special tokens (1 token): [PAD]",
        "    special tokens (1 token): [PAD]",
    ]
    # Pairs of the five vectors: 2.36 and 1 within, -2 * 2.4 between, of 10. Weighted by tokens: (3 * 0.787 + 2) / 5.
    assert lines[6] == (
        "3 blocks of text: 2 to 3 tokens, median 2; mean cosine of two tokens of a block 0.872, of two at random "
        "-0.144; 1 of them by frequency"
    )
    assert lines[7:9] == [
        "  most coherent, 1.00: block 1 of 3 (2 tokens): blue, red",
        "  most coherent, 0.79: block 0 of 3 (3 tokens): duke, queen, …",
    ]
    assert lines[9].startswith("1 block of text: 7 to 7 tokens") and len(lines) == 11
    assert partition_report.summary(TABLE) == "\n".join([lines[6], lines[9]])
    assert "no partitions: give semantics.blocks" in partition_report.inspect(TABLE._replace(partitions=None), NOTES)
