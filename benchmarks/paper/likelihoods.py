"""Table 2: perplexity of the test split, the terms of the bound, bounds by many paths, and the slack of kernels."""

import dataclasses
import functools
import math
import statistics

from benchmarks.bakeoff import Entry, markdown, mean_nelbo
from benchmarks.paper.cells import Cell, TrainedRun
from benchmarks.paper.scales import Scale
from benchmarks.paper.systems import AUTHORS, TUNED, entries
from benchmarks.slack import cross_entropy, frequency_model
from semdlm_jax.data.protocols import SomeRows
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.importance import importance_bounds
from semdlm_jax.objectives import make_posterior
from semdlm_jax.scores import path_log_weights, prepared_of, rows_of, score_likelihood

NAME, TITLE = "table2", "Table 2: test perplexity"
SLACK_SECONDS, PATH_SECONDS = 60.0, 90.0
# Perplexities of the paper's Table 2.
PUBLISHED = {"SemDLM+": "27.19", "MDLM": "31.78", "SEDD, masks": "32.68", "SemDLM, neighbors alone": "149.50"}


def cells(scale: Scale, seeds: list[int]) -> list[Cell]:
    runs = dict.fromkeys(entries(scale).values())
    kernels = dict.fromkeys(kernel_of(entry) for entry in runs if entry.system != "ar")
    wanted = [slack_cell(NAME, kernel) for kernel in kernels]
    for seed in seeds:
        for entry in runs:
            key = f"{entry.text}, seed {seed}"
            wanted.append(Cell(NAME, f"{key}, bound", entry, seed, bound, scale.seconds[1]))
            if entry.system != "ar":
                measure = functools.partial(paths, scale)
                wanted.append(Cell(NAME, f"{key}, paths", entry, seed, measure, PATH_SECONDS))
    return wanted


def kernel_of(entry: Entry) -> Entry:
    """The entry of its kernel alone: what else is changed does not change the slack."""
    return Entry(entry.system, tuple(change for change in entry.changes if change[0].startswith("kernel.")))


def slack_cell(part: str, entry: Entry) -> Cell:
    """The slack of a kernel; nothing is trained."""
    return Cell(part, f"{entry.text}, slack", None, None, functools.partial(slack, entry), SLACK_SECONDS)


def slack(entry: Entry) -> dict:
    """See benchmarks/slack.py."""
    model = frequency_model(entry)
    tokens = prepared_of(model).splits["test"]
    found, protocol = score_likelihood(model, tokens, posterior=make_posterior("bayes"))
    entropy = float(cross_entropy(model, "test"))
    return {"slack": found.nelbo - entropy, "standard_error": found.standard_error, "protocol": protocol}


def bound(run: TrainedRun) -> dict:
    """The NELBO of the test split with its terms; of the autoregressive model its likelihood."""
    found, protocol = score_likelihood(run.trained, run.split("test"))
    return {"likelihood": dataclasses.asdict(found), "protocol": protocol}


def paths(scale: Scale, run: TrainedRun) -> dict:
    """The bounds by one and by several paths of some rows."""
    rows = SomeRows.evenly(rows_of(run.trained, run.split("test")), scale.path_rows)
    try:
        weights, tokens = path_log_weights(run.trained, rows, scale.path_steps, scale.paths)
    except UserError as error:
        return {"impossible": str(error)}
    bounds = importance_bounds(weights, tokens, (1, scale.paths))
    return {"nats": {str(n): bound.nats for n, bound in bounds.items()}, "error": bounds[scale.paths].error}


def page(scale: Scale, seeds: list[int], lines: dict[str, dict]) -> str:
    """The table as Markdown, of the cells that are there."""
    rows, exact = [], []
    for (name, kind), entry in entries(scale).items():
        if kind == TUNED and entry == entries(scale)[name, AUTHORS]:
            continue
        found = [lines.get(f"{entry.text}, seed {seed}, bound") for seed in seeds]
        there = [line for line in found if line is not None]
        if not there:
            continue
        many = [lines.get(f"{entry.text}, seed {seed}, paths", {}).get("nats") for seed in seeds]
        row = _row(name, kind, there, [nats for nats in many if nats], _slack(entry, lines), scale)
        (exact if entry.system == "ar" else rows).append(row)
    one_path, all_paths = "1 path", f"{scale.paths} paths"
    header = ("system", "loss", "seeds", "NELBO", "perplexity", "prior", "rebuilt", one_path, all_paths, "slack")
    text = markdown(rows, header)
    if exact:
        text += (
            f"\n\nThe autoregressive network, whose likelihood is exact: {exact[0][3]} nats, perplexity {exact[0][4]}."
        )
    protocol = next(
        (line["protocol"] for line in lines.values() if "likelihood" in line and "bound" in line["protocol"]), ""
    )
    published = "\n".join(f"* {name}: {value}" for name, value in PUBLISHED.items())
    machines = "; ".join(sorted({line["machine"] for line in lines.values() if "likelihood" in line}))
    tuned = "\n".join(f"* {name}: {entry.text}" for (name, kind), entry in entries(scale).items() if kind == TUNED)
    return (
        f"{protocol}. Measured with {machines}: another number of threads adds up in another order, and training makes "
        f"differences of it that *±* does not hold.\n\n{text}\n\n{_LEGEND.format(scale=scale)}\n\n"
        f"What is trained where the table says *tuned*, as `--systems` of benchmarks.bakeoff takes it:\n\n{tuned}"
        f"\n\n{_PAPER}\n\n{published}"
    )


_PAPER = (
    "The paper's own perplexities, of 0.1B parameters on LM1B after 200,000 steps, by a protocol that it does not "
    "state: they do not compare with the above. Its figure of MDLM is published for rows that wrap around documents, "
    "that of SEDD for a sentence a row."
)


_LEGEND = (
    "NELBO, its terms, paths and slack in nats per token; ± the standard error of the mean over seeds, or that over "
    "windows if it is larger, which is mostly shared by the rows. *rebuilt*: the reconstruction. *1 path* and "
    "*{scale.paths} paths*: the bounds by paths of {scale.path_steps} even steps, of {scale.path_rows} rows of the "
    "split: compare them with each other, not with the NELBO. *slack*: what the bound has beyond the known loss of a "
    "model of token frequencies, 0 for a tight bound; the same for all losses of a kernel."
)


def _slack(entry, lines):
    return lines.get(f"{kernel_of(entry).text}, slack", {}).get("slack")


def _row(name, kind, found, many, slack, scale):
    nats = statistics.mean(line["likelihood"]["nelbo"] for line in found)
    terms = [statistics.mean(line["likelihood"][term] for line in found) for term in ("prior", "reconstruction")]
    by_paths = [f"{statistics.mean(nats[str(n)] for nats in many):.3f}" if many else "" for n in (1, scale.paths)]
    return (
        name,
        kind,
        str(len(found)),
        mean_nelbo([line["likelihood"] for line in found]),
        f"{math.exp(nats):.1f}",
        *(f"{term:.3f}" for term in terms),
        *by_paths,
        "" if slack is None else f"{slack:+.3f}",
    )
