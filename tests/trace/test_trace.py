import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from semdlm_jax.errors import UserError
from semdlm_jax.trace import EVENTS, Trace, curves, events, write_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MASK, VOCAB = 4, 8
# 5 and 6 are neighbors by either's row alone, 5 and 7 by that of 7.
NEIGHBORS = np.full((VOCAB, 2), -1)
NEIGHBORS[5, 0], NEIGHBORS[7] = 6, (5, VOCAB)
PIECES = ["<pad>", "<unk>", "<s>", "</s>", "<mask>", "▁old", "▁aged", "</script><b>&amp;"]
GIVEN, KEPT, NEAR, JUMPED, FROZEN, WAITING = range(6)

INITIAL = [[3, 4, 4, 5, 4, 4]]
TOKENS = [[[3, 5, 4, 7, 4, 4]], [[3, 6, 6, 7, 4, 4]], [[3, 6, 6, 7, 7, 5]]]
CODES = [
    [[GIVEN, JUMPED, FROZEN, NEAR, WAITING, WAITING]],
    [[GIVEN, NEAR, JUMPED, KEPT, WAITING, WAITING]],
    [[GIVEN, KEPT, KEPT, KEPT, JUMPED, JUMPED]],
]


def make_trace(**changes):
    """3 steps of 1 sample: two of a stride of 4 positions, the first of them given, then one of a stride of 2."""
    frozen = np.zeros((3, 1, 6), bool)
    frozen[0, 0, 2] = True
    trace = Trace(
        t=np.array([1, 0.5, 1], np.float32),
        s=np.array([0.5, 0, 0], np.float32),
        start=np.array([0, 0, 4]),
        stop=np.array([4, 4, 6]),
        initial=np.array(INITIAL, np.int32),
        tokens=np.array(TOKENS, np.int32),
        confidence=np.linspace(0, 1, 18, dtype=np.float32).reshape(3, 1, 6),
        frozen=frozen,
        is_given=np.array([[True] + [False] * 5]),
    )
    return trace._replace(**changes)


def random_trace(seed=0, steps=6, batch=3, length=8):
    rng = np.random.default_rng(seed)
    is_given = rng.random((batch, length)) < 0.2
    is_given[0, length // 2 :] = True  # nothing is open in a stride
    x = rng.integers(0, VOCAB, (batch, length))
    initial, tokens = x, []
    start = np.repeat([0, length // 2], steps // 2)
    for first in start:
        at = np.arange(length)
        active = (at >= first) & (at < first + length // 2) & ~is_given & (rng.random(x.shape) < 0.5)
        x = np.where(active, rng.integers(0, VOCAB, x.shape), x)
        tokens.append(x)
    shape = (steps, batch, length)
    return Trace(
        np.linspace(1, 0.1, steps),
        np.linspace(0.9, 0, steps),
        start,
        start + length // 2,
        initial,
        np.array(tokens),
        rng.random(shape, np.float32),
        rng.random(shape) < 0.1,
        is_given,
    )


def embedded(path):
    """The data of a page, as a parser of HTML finds it: up to the first end tag."""
    text = path.read_text("utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script', text, re.S)[1])


def write(path, trace=None, pieces=PIECES, **settings):
    trace = make_trace() if trace is None else trace
    write_page(path, trace, events(trace, NEIGHBORS), pieces, title="A trace", settings=settings, mask_id=MASK)
    return path


def replayed(data):
    """[N + 1, B, L]: the pieces of every step, from the initial tokens and the changes."""
    steps = [np.array(data["initial"])]
    for samples in data["changes"]:
        rows = steps[-1].copy()
        for row, pairs in zip(rows, samples, strict=True):
            row[pairs[::2]] = pairs[1::2]
        steps.append(rows)
    return np.array(data["pieces"], object)[np.array(steps)]


def test_events_have_their_codes():
    found = events(make_trace(), NEIGHBORS)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, CODES)
    assert list(EVENTS) == ["given", "kept", "near", "jumped", "frozen", "waiting"]


@pytest.mark.parametrize(("old", "new"), [(5, 6), (6, 5), (7, 5), (5, 7)])
def test_near_counts_both_directions(old, new):
    trace = make_trace(initial=np.full((1, 6), old), tokens=np.full((3, 1, 6), new))
    assert (events(trace, NEIGHBORS)[0, 0, 1:4] == NEAR).all()


def test_a_missing_neighbor_is_nobody():
    """Rows are padded with V, which may be the mask's id; token 7 has such a row."""
    trace = make_trace(initial=np.full((1, 6), 7), tokens=np.full((3, 1, 6), VOCAB))
    assert (events(trace, NEIGHBORS)[0, 0, 1:4] == JUMPED).all()
    trace = make_trace(initial=np.full((1, 6), VOCAB), tokens=np.full((3, 1, 6), 7))
    assert (events(trace, NEIGHBORS)[0, 0, 1:4] == JUMPED).all()


def test_what_was_held_back_but_changed_is_no_longer_frozen():
    trace = make_trace(frozen=np.ones((3, 1, 6), bool))
    codes = events(trace, NEIGHBORS)
    np.testing.assert_array_equal(codes[1], [[GIVEN, NEAR, JUMPED, FROZEN, WAITING, WAITING]])
    np.testing.assert_array_equal(codes[2], [[GIVEN, KEPT, KEPT, KEPT, JUMPED, JUMPED]])


@pytest.mark.parametrize("trace", [make_trace(), random_trace()], ids=["small", "random"])
def test_curves_against_loops(trace):
    codes = events(trace, NEIGHBORS)
    entropy, changed, confidence = curves(trace, codes)
    before = np.concatenate([trace.initial[None], trace.tokens[:-1]])
    for n, b in np.ndindex(entropy.shape):
        counts, sure, moved = {}, [], []
        for i, token in enumerate(trace.tokens[n, b].tolist()):
            if i < trace.stop[n]:
                counts[token] = counts.get(token, 0) + 1
                if i >= trace.start[n] and not trace.is_given[b, i]:
                    sure.append(trace.confidence[n, b, i])
                    moved.append(token != before[n, b, i])
        p = np.array(list(counts.values())) / trace.stop[n]
        np.testing.assert_allclose(entropy[n, b], -np.sum(p * np.log(p)), atol=1e-12)
        np.testing.assert_allclose(changed[n, b], np.mean(moved) if moved else np.nan)
        np.testing.assert_allclose(confidence[n, b], np.mean(sure, dtype=float) if sure else np.nan)


def test_the_page_carries_the_trace(tmp_path):
    trace = random_trace()
    data = embedded(write(tmp_path / "trace.html", trace, sampler="ancestral", note="</table>"))
    shown = np.array([piece.replace("▁", " ") for piece in PIECES], object)
    np.testing.assert_array_equal(replayed(data), shown[np.concatenate([trace.initial[None], trace.tokens])])
    assert data["pieces"][data["mask"]] == "<mask>"
    codes = np.array([[list(map(int, row)) for row in step] for step in data["events"]])
    np.testing.assert_array_equal(codes, events(trace, NEIGHBORS))
    assert data["settings"] == [["sampler", "ancestral"], ["note", "</table>"]]
    entropy, changed, confidence = (np.array(curve, float).T for curve in data["curves"])
    for found, wanted in zip((entropy, changed, confidence), curves(trace, codes), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert data["curves"][1][0][-1] is None  # nothing open: JSON has no NaN


def test_nothing_in_a_piece_becomes_markup(tmp_path):
    path = write(tmp_path / "trace.html", pieces=[*PIECES[:5], "<!--<script>", "\u2028'\"`${1}", PIECES[7]])
    assert len(re.findall("</script", path.read_text("utf-8"), re.I)) == 2  # the data's and the program's own
    assert set(PIECES[7:] + ["<!--<script>", "\u2028'\"`${1}"]) <= set(embedded(path)["pieces"])
    assert "innerHTML" not in path.read_text("utf-8")


def test_the_page_needs_no_other_file(tmp_path):
    text = write(tmp_path / "trace.html").read_text("utf-8")
    assert not set(re.findall(r"https?://[^\s\"'`]*", text)) - {"http://www.w3.org/2000/svg"}
    assert not re.search(r"\bsrc\s*=|\bhref\s*=|@import|url\(|\bfetch\(|\bimport\b", text)
    assert "default-src 'none'" in text


def test_ids_without_a_piece_show_as_numbers(tmp_path):
    data = embedded(write(tmp_path / "trace.html", pieces=PIECES[:7]))
    assert "<7>" in data["pieces"]


def test_a_page_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write(tmp_path / "trace.html")
    assert [file.name for file in tmp_path.iterdir()] == ["trace.html"]
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UserError, match=r"trace\.html: the disk is full"):
        write(path, random_trace())
    assert [file.name for file in tmp_path.iterdir()] == ["trace.html"]
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(UserError, match=r"none/trace\.html: its directory does not exist: make it"):
        write(tmp_path / "none" / "trace.html")
    with pytest.raises(UserError, match=r"is a directory: give the path of a file"):
        write(tmp_path)


def dom(page, folder, place="", script=""):
    """What a browser makes of the page after 3 s of its own time; script: run when the page is drawn."""
    acted = page.with_name("acted.html")
    acted.write_text(page.read_text("utf-8").replace("</body>", f"<script>{script}</script></body>"), "utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--dump-dom"]
    command = [BROWSER, *options, f"--user-data-dir={folder / 'browser'}", f"{acted.as_uri()}{place}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def text_of(document):
    """[({event, other classes}, text)] of the tokens drawn."""
    tokens = re.findall(r'<span data-i="\d+" class="token ([^"]*)"[^>]*>([^<]*)</span>', document)
    return [(set(classes.split()) - {"spaced"}, text) for classes, text in tokens]


@pytest.mark.skipif(BROWSER is None, reason="no headless browser installed")
def test_in_a_browser(tmp_path):
    page = write(tmp_path / "trace.html", sampler="ancestral")
    escaped = "&lt;/script&gt;&lt;b&gt;&amp;amp;"
    last = [("given", "&lt;/s&gt;"), ("kept", "aged"), ("kept", "aged"), ("kept", escaped)]
    last += [("jumped", escaped), ("jumped", "old")]
    last = [({event}, text) for event, text in last]

    opened = dom(page, tmp_path, "#step=3")
    assert 'data-state="ready"' in opened
    assert "step 3 of 3 · t = 1.000 → text · stride 2 of 2" in opened
    assert text_of(opened) == last
    assert opened.count("<path") == 3 * (1 + 1 + 1)  # a plot: its curve, the end of a stride, the cursor

    played = dom(page, tmp_path, "#step=1", "document.getElementById('play').click()")
    assert 'data-state="ready"' in played
    assert text_of(played) == last

    keys = "for (const key of ['End', 'ArrowLeft', ']', ']', ']']) dispatchEvent(new KeyboardEvent('keydown', {key}))"
    stepped = dom(page, tmp_path, "", keys)
    assert 'data-state="ready"' in stepped
    assert text_of(stepped)[1:3] == [({"near"}, "aged"), ({"jumped", "held"}, "aged")]
    assert text_of(stepped)[4] == ({"waiting", "mask"}, "")
    assert "position 2, step 2: confidence 0.471" in stepped
    assert re.search('<tr class="now"><td[^>]*>2</td><td[^>]*>0.500</td><td[^>]*>▁aged</td>', stepped)

    pointer = """const plot = document.querySelector('svg'), box = plot.getBoundingClientRect();
      plot.dispatchEvent(new PointerEvent('pointerdown', { clientX: box.left + box.width / 3 }));
      const token = document.querySelector('[data-i="3"]');
      token.dispatchEvent(new PointerEvent('pointerover', { bubbles: true }));"""
    pointed = dom(page, tmp_path, "", pointer)
    assert 'data-state="ready"' in pointed
    assert "step 1 of 3 · t = 1.000 → 0.500 · stride 1 of 2" in pointed
    assert "position 3, step 1: confidence 0.176" in pointed


@pytest.mark.skipif(BROWSER is None, reason="no headless browser installed")
def test_a_browser_tells_a_damaged_page(tmp_path):
    page = write(tmp_path / "trace.html")
    page.write_text(page.read_text("utf-8").replace('"initial"', '"other"'), "utf-8")
    found = dom(page, tmp_path)
    assert 'data-state="error"' in found
    assert "This page could not be drawn: " in found
