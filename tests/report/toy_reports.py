"""Reports and runs by hand."""

import json

from semdlm_jax.evaluation.intervals import Interval
from semdlm_jax.evaluation.report import MODEL, OF_FIGURES, SCHEMA, Curve, Figure, Section
from semdlm_jax.report.columns import Run
from semdlm_jax.report.reading import Report

TEXT = {"text": "abc", "rows": "packed"}
CONFIG = {"seed": 0, "kernel.name": "absorbing", "data.length": 4, "data.corpus": "sotu", "training.batch_size": 2}
CONFIG |= {"evaluation.valid_batches": 2, "evaluation.batch_size": 3, "objective.name": "nelbo"}


def section(
    value=3.0, reach=0.1, *, figures=(), comparable=TEXT, better="lower", protocol="packed; seed 0", y=(1.0, 2.0)
):
    """A section with the figure 'nelbo', beside a control, and further ones {name: (values, of this figure)}."""
    ends = (None, None) if reach is None else (value - reach, value + reach)
    values = {MODEL: Interval(value, *ends), "shuffled": Interval(value + 5, None, None)}
    more = {name: Figure(name, found, better) for name, (found, _) in dict(figures).items()}
    return Section(
        "Likelihood",
        protocol,
        {"nelbo": Figure("NELBO", values, better), **more},
        {"position": Curve("By position", "position", "nats", {MODEL: {"x": [1, 2], "y": list(y)}})},
        comparable=dict(comparable)
        | ({OF_FIGURES: {name: of for name, (_, of) in dict(figures).items()}} if figures else {}),
    )


def run(label, *sections, metrics=(), checkpoint="best", **config):
    """A run whose report has these sections, by their titles, or none."""
    named = {one.title.lower(): one for one in sections}
    report = Report("there", checkpoint, 10, 1000, named) if sections else None
    known = CONFIG | {key.replace("__", "."): value for key, value in config.items()}
    return Run(label, known, report, metrics)


def rows(*nelbos, loss=2.0):
    """Metrics of ten steps for each NELBO."""
    found = [{"step": 10 * (i + 1), "valid/nelbo": x, "valid/standard_error": 0.01} for i, x in enumerate(nelbos)]
    return [{"step": 5, "train/loss": loss}, *found]


def write(path, *sections, **changed):
    """A report in a file, as evaluate writes it."""
    named = {one.title.lower(): one.as_json() for one in sections}
    fields = {"schema": SCHEMA, "workdir": "nowhere", "checkpoint": "best", "step": 10, "parameters": 1000}
    path.write_text(json.dumps({**fields, "sections": named, **changed}))
    return path
