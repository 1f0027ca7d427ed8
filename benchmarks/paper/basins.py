"""Table 1: texts in a semantic basin and out of it, found by the basin index and not chosen by hand.

Of the texts of each sampler, that with the highest basin index and the median one, with a page that replays how each
was written.
"""

import functools
import pathlib
import tempfile

import numpy as np

from benchmarks.bakeoff import markdown
from benchmarks.paper.cells import Cell, TrainedRun
from benchmarks.paper.sampling import settings_of
from benchmarks.paper.scales import Scale
from benchmarks.paper.systems import tuned
from semdlm_jax import trace
from semdlm_jax.data.protocols import read_row
from semdlm_jax.evaluation.quality import neighbor_affinity
from semdlm_jax.experiment.load import Trained
from semdlm_jax.generate import generate
from semdlm_jax.objectives import Objective
from semdlm_jax.samplers.presets import make_settings
from semdlm_jax.samplers.settings import SamplingSettings
from semdlm_jax.scores import prepared_of

NAME, TITLE = "table1", "Table 1: in a semantic basin and out of it"
# A name, the system, a preset of its sampler and changes.
SAMPLERS = (
    ("SemDLM, neighbors alone", "semdlm_knn", None, {"temperature": 0.7}),
    ("SemDLM+, no penalty", "semdlm_plus", "semdlm_plus", {"lambda_freq": 0.0, "lambda_sem": 0.0, "temperature": 0.7}),
    ("SemDLM+, the paper's sampler", "semdlm_plus", "semdlm_plus", {"temperature": 0.7}),
)
RANKS = {"highest": 1.0, "median": 0.5}


def cells(scale: Scale, seeds: list[int]) -> list[Cell]:
    """Those of the first seed alone: the table shows single texts."""
    wanted = []
    for name, system, preset, changes in SAMPLERS:
        settings = make_settings(preset, steps=scale.sampling_steps[-2], **changes)
        measure = functools.partial(passages, scale, settings, name)
        wanted.append(Cell(NAME, f"{name}, seed {seeds[0]}", tuned(system, scale), seeds[0], measure, scale.seconds[1]))
    return wanted


def passages(scale: Scale, settings: SamplingSettings, name: str, run: TrainedRun) -> dict:
    """The texts of both ranks with their basin index, and a page for each."""
    trained = run.trained
    rows, replay = generate(trained, settings, num_samples=scale.samples, recorded=scale.samples)
    assert replay is not None  # of all rows
    tokenizer, table = prepared_of(trained).tokenizer, trained.corpus.table
    held_out = trained.rows("test")
    every = range(0, held_out.ordered_count, max(1, held_out.ordered_count // 256))
    real = neighbor_affinity([held_out.ordered_row(i)[0] for i in every], table.ids, table.similarities).mean()
    index = neighbor_affinity(rows, table.ids, table.similarities) / real
    order, found, files = np.argsort(index, kind="stable"), {}, {}
    for rank, share in RANKS.items():
        row = int(order[round(share * (len(rows) - 1))])
        page = f"table1-{name.replace(',', '').replace(' ', '-').replace(chr(39), '')}-{rank}.html".lower()
        files[page] = _page_of(trained, replay, row, f"{name}: {rank} basin index", settings)
        found[rank] = {"index": float(index[row]), "text": read_row(tokenizer, rows[row]), "page": page}
    return {"settings": str(settings), "mean": float(index.mean()), "passages": found, "files": files}


def _page_of(trained: Trained, replay: trace.Trace, row: int, title: str, settings: SamplingSettings) -> str:
    """The page of one row of a Trace."""
    one = slice(row, row + 1)
    single = replay._replace(
        **{name: getattr(replay, name)[one] for name in ("initial", "is_given")},
        **{name: getattr(replay, name)[:, one] for name in ("tokens", "confidence", "frozen")},
    )
    prepared, table = prepared_of(trained), np.asarray(trained.corpus.table.ids)
    tokenizer = prepared.tokenizer
    assert isinstance(trained.objective, Objective)  # the samplers above have reverse processes
    symbols = trace.symbol_names(trained.objective.kernel, tokenizer.pieces, prepared.unigram)
    pieces = [piece if i != tokenizer.pad_id else "" for i, piece in enumerate(tokenizer.pieces)] + symbols
    about = {"kernel": trained.config.kernel.name, "sampling": str(settings), "seed": "0"}
    more = {"title": title, "settings": about, "mask_id": tokenizer.mask_id}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "page.html"
        trace.write_page(path, single, trace.events(single, table), pieces, **more)
        return path.read_text()


def page(scale: Scale, seeds: list[int], lines: dict[str, dict]) -> str:
    """The passages as Markdown."""
    rows = []
    known = {name: lines[key] for name, *_ in SAMPLERS if (key := f"{name}, seed {seeds[0]}") in lines}
    for name, line in known.items():
        for rank, found in line["passages"].items():
            text = found["text"].replace("|", "\\|").replace("\n", " ")
            shown = f"[{text}]({found['page']})"
            rows.append((name, f"{line['mean']:.2f}", rank, f"{found['index']:.2f}", shown))
    told = (
        f"Of {scale.samples} texts of each, {scale.sampling_steps[-2]} steps, temperature 0.7, seed {seeds[0]}. The "
        "basin index is the mean similarity of two tokens of a text over that of held-out text. Each text leads to a "
        "page that replays how it was written; download it to open it."
    )
    table = markdown(rows, ("sampler", "mean index", "rank", "index", "text"))
    return f"{told}\n\n{table}\n\nThe samplers differ:\n\n{settings_of(known)}"
