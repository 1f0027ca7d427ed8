"""Scores a run: python -m semdlm_jax.evaluate --workdir=runs/quickstart --split=test [--text=FILE] [--output=FILE.json]
Or a portable model: python -m semdlm_jax.evaluate --model=quickstart-mdlm --text=FILE

Prints the likelihood bound of a split (or of a text file) with its standard error and protocol, and compares newly
generated samples with held-out text.
"""

import dataclasses
import json
import sys

import jax
from absl import flags

from semdlm_jax import cli
from semdlm_jax.data.files import lines_of, read_text
from semdlm_jax.data.packing import pack
from semdlm_jax.data.protocols import PROTOCOLS
from semdlm_jax.data.scored import bits_per_byte, scored_bytes, scored_counts
from semdlm_jax.data.unknown import UNKNOWN_WARNED, unknown_share_of
from semdlm_jax.entropy import entropy, smoothed_cross_entropy
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.likelihood import with_error
from semdlm_jax.evaluation.measures import GENERATED, HELDOUT, MEASURES, SHUFFLED
from semdlm_jax.experiment.load import load_trained
from semdlm_jax.experiment.portable import is_portable
from semdlm_jax.generate import BATCH_SIZE
from semdlm_jax.options import counted
from semdlm_jax.runtime import distributed
from semdlm_jax.runtime.progress import Progress, tell
from semdlm_jax.samplers.presets import make_settings
from semdlm_jax.scores import compare_samples, prepared_of, rows_of, score_rows
from semdlm_jax.storage import write_text


def _perplexity(report):
    """The bound on the perplexity, as text."""
    if report["perplexity"] is None:
        return f"above {sys.float_info.max:.1e}"
    return with_error(report["perplexity"], report["perplexity_standard_error"], digits=2)


def _bits(report):
    """The bound in bits per byte, as text."""
    if report["bits_per_byte"] is None:
        return "n/a: the scored tokens contain no text"
    shown = with_error(report["bits_per_byte"], report["bits_per_byte_standard_error"])
    return f"{shown} over {report['scored_bytes']:,} bytes of text"


def table(report):
    """The report as text for a terminal. report: of `report_likelihood` and `report_samples`, and the split's name."""
    nelbo, scored = report["likelihood"], "text" if report.get("text") else "split"
    lines = [
        f"{scored:<28}{report['split']}: {nelbo['tokens']:,} tokens in {counted(nelbo['sequences'], 'row')}",
        f"{'protocol':<28}{report['protocol']}",
        f"{'NELBO':<28}{with_error(nelbo['nelbo'], nelbo['standard_error'])} nats/token "
        f"(integral {nelbo['integral']:.4f}, prior {nelbo['prior']:.4f}, reconstruction {nelbo['reconstruction']:.4f})",
        f"{'perplexity bound':<28}{_perplexity(report)}",
        f"{'bits per byte':<28}{_bits(report)}",
        f"{'unigram model of train':<28}{report['unigram_cross_entropy']:.4f} nats/token of these tokens (counts + 1)",
        f"{'unigram entropy':<28}{report['unigram_entropy']:.4f} nats/token of these tokens' own counts",
        f"{'unknown tokens':<28}{report['unknown_share']:.3%} of the text",
    ]
    if nelbo["error_over"] != "sequences":
        cause = "over the draws of one row" if nelbo["error_over"] else "unknown from one draw of one row"
        lines.insert(3, f"{'':<28}error {cause}: give more text, or --draws, for a better one")
    if samples := report["samples"]:
        lines += [
            "",
            report["samples_protocol"],
            f"{'':<60}{'generated':>12}{'held-out':>12}{'shuffled':>12}",
        ]
        shown = [(MEASURES.find(name), row) for name, row in samples.items()]
        for measure, row in shown:
            if measure.title:
                values = [row[name] for name in (GENERATED, HELDOUT, SHUFFLED) if name in row]
                cells = "".join(f"{'n/a' if v is None else f'{v:.3f}':>12}" for v in values)
                lines.append(f"{measure.title:<60}{cells}")
        lines += ["", *filter(None, (measure.meaning for measure, _ in shown))]
    return "\n".join(lines)


def read_options(options):
    """The text of --text, or None. UserError for impossible flags, before any work."""
    cli.check_output(options.output)
    cli.check_distinct(text=options.text, output=options.output)
    if options.samples is not None and options.samples < 0:
        raise UserError(f"--samples={options.samples} is negative: give 0 for none")
    for name in options.measures or ():
        MEASURES.find(name)
    if options.draws is not None and options.draws < 1:
        raise UserError(f"--draws={options.draws} scores nothing: give at least 1")
    text = read_text(options.text) if options.text else None
    if text is not None and not text.strip():
        raise UserError(f"--text={options.text} is empty: give a file with text")
    return text


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


def warn_of_unknown(tokenizer, counts):
    """The share of unknown tokens among counts [V]; prints a warning if it is large."""
    unknown = unknown_share_of(tokenizer, counts)
    if unknown > UNKNOWN_WARNED:
        print(
            f"warning: {unknown:.1%} of the text is unknown to the vocabulary: there the score says how well the "
            "unknown token is predicted, not the text",
            file=sys.stderr,
        )
    return unknown


def report_likelihood(trained, tokens, protocol, options):
    """The report's entries on the likelihood of a token stream. Warns of unknown tokens."""
    tokenizer, rows = prepared_of(trained).tokenizer, rows_of(trained, tokens, protocol)
    likelihood, words = score_rows(trained, rows, seed=options.seed, draws=options.draws, batch_size=options.batch_size)
    counts = scored_counts(rows, tokenizer.vocab_size)
    unknown = warn_of_unknown(tokenizer, counts)
    size = scored_bytes(rows, tokenizer)
    return {
        "protocol": words,
        "likelihood": dataclasses.asdict(likelihood),
        "perplexity": likelihood.perplexity,
        "perplexity_standard_error": likelihood.perplexity_error,
        "scored_bytes": size,
        "bits_per_byte": bits_per_byte(likelihood.nelbo, likelihood.tokens, size),
        "bits_per_byte_standard_error": bits_per_byte(likelihood.standard_error, likelihood.tokens, size),
        "unigram_cross_entropy": smoothed_cross_entropy(counts, prepared_of(trained).unigram),
        "unigram_entropy": entropy(counts),
        "unknown_share": unknown,
    }


def report_samples(trained, options):
    """The report's entries on samples; empty for --samples=0."""
    evaluation = trained.config.evaluation
    count = evaluation.samples if options.samples is None else options.samples
    if not count:
        return {"samples_protocol": "", "samples": {}}
    settings = make_settings(
        steps=evaluation.sample_steps,
        strides=1 if trained.objective.exact else evaluation.strides,
        temperature=evaluation.temperature,
    )
    given = {"measures": options.measures} if options.measures else {}
    samples = compare_samples(trained, options.split, settings, num_samples=count, seed=options.seed, **given)
    batch, devices = min(count, BATCH_SIZE), jax.device_count()
    drawn = f"seed {options.seed}, {batch} at once on {counted(devices, 'device')}"
    return {"samples_protocol": f"{counted(count, 'sample')}, {settings}; {drawn}", "samples": samples}


def _settle_portable(source, options):
    """Sets --samples=0 for a portable model. UserError: a split or samples are asked for, which need the run."""
    if not is_portable(source):
        return
    if options.text is None:
        raise UserError(f"{source} is a portable model, without the splits of its data: give --text=FILE, or its run")
    if options.samples:
        raise UserError(f"{source} is a portable model, without text to compare samples with: give --samples=0")
    options.samples = 0


def main(options):
    distributed.start()
    text, source = read_options(options), cli.find_model(options)
    _settle_portable(source, options)
    tell(f"reading {source}")
    trained = load_trained(source, **cli.load_options(options))
    prepared = prepared_of(trained)
    protocol = options.protocol or trained.config.data.protocol
    if text is None:
        tokens = prepared.splits[options.split]
    else:
        tokens = encode(text, prepared.tokenizer, by_line=PROTOCOLS[protocol].padded)
    report = {
        "workdir": str(source),
        "checkpoint": options.checkpoint,
        "step": trained.step,
        "split": options.text or options.split,
        "text": options.text,
        "seed": options.seed,
        **report_likelihood(trained, tokens, protocol, options),
        **report_samples(trained, options),
    }
    if options.output and jax.process_index() == 0:
        write_text(options.output, json.dumps(report, indent=2, allow_nan=False) + "\n")
    print(table(report))
    if options.output:
        print(f"written to {options.output}")


if __name__ == "__main__":
    cli.define_model_flags()
    flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "The split to score and to compare samples with.")
    flags.DEFINE_string("text", None, "A UTF-8 text file to score instead of the split; not a pipe.")
    flags.DEFINE_enum("protocol", None, sorted(PROTOCOLS), "How text becomes rows. Default: the protocol of the run.")
    flags.DEFINE_integer("samples", None, "Samples to generate, 0 for none. Default: as in the configuration.")
    about = f"Measures of samples: {', '.join(MEASURES)} or module:Class. Default: all of these."
    flags.DEFINE_list("measures", None, about)
    flags.DEFINE_integer("draws", None, "How often each row is corrupted and scored. Default: as in the configuration.")
    flags.DEFINE_integer("batch_size", None, "Rows scored at once. Default: as in the configuration.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of times, noise and samples.", lower_bound=0)
    flags.DEFINE_string("output", None, "A JSON file for the report.")
    with distributed.ends_together():
        cli.run(lambda: main(flags.FLAGS), required=[cli.MODEL], compiles=True)
