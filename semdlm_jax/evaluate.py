"""Scores a run: python -m semdlm_jax.evaluate --workdir=runs/quickstart --split=test [--text=FILE] [--output=FILE.json]

The likelihood bound of a split (or of a text file) with its standard error and protocol, and how freshly generated
samples compare with held-out text.
"""

import dataclasses
import json
import pathlib

import jax
import numpy as np
from absl import flags

from semdlm_jax import assembly, cli
from semdlm_jax.data.files import lines_of, read_text
from semdlm_jax.data.packing import pack
from semdlm_jax.data.pipeline import eval_batches
from semdlm_jax.data.protocols import PROTOCOLS, make_rows, read_row
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation import quality
from semdlm_jax.evaluation.likelihood import evaluate_likelihood
from semdlm_jax.generate import generate
from semdlm_jax.inputs import PROTOCOL
from semdlm_jax.objectives import Autoregressive
from semdlm_jax.runtime.mesh import place_batch
from semdlm_jax.runtime.progress import Progress, tell
from semdlm_jax.samplers.presets import make_settings

BIGRAM_TOKENS = 5_000_000  # of train, from its start, whose word bigrams are known: more would not fit in memory


def score_likelihood(trained, tokens, seed=0, posterior=None):
    """(Likelihood, protocol) of a token stream under the EMA weights. posterior: instead of the run's own."""
    evaluation, data = trained.config.evaluation, trained.config.data
    rows = make_rows(data.get("protocol", PROTOCOL), tokens, data.length, trained.corpus.prepared.tokenizer)
    batch_size = assembly.whole_rows(evaluation.batch_size, trained.mesh)
    exact = isinstance(trained.objective, Autoregressive)
    batches, draws = -(-rows.ordered_count // batch_size), 1 if exact else evaluation.draws
    compiled = assembly.build_score(trained.config, trained.denoiser, trained.objective, trained.mesh, posterior)
    with Progress(batches * draws, units_per_step=batch_size * data.length, label="NELBO") as progress:
        result = evaluate_likelihood(
            compiled,
            trained.params,
            eval_batches(rows, batch_size),
            jax.random.key(seed),
            draws=draws,
            place=lambda batch: place_batch(batch, trained.mesh),
            progress=progress.update,
        )
    t_min, t_max = (evaluation.get(name, default) for name, default in assembly.BOUND_ENDS.items())
    bound = (
        f"continuous-time bound, {draws} stratified t in [{t_min:g}, {t_max:g}] a row with a corruption each, "
        "prior and reconstruction included"
    )
    score = "exact likelihood by the chain rule, nothing before a row's first token" if exact else bound
    return result, f"{rows.describe()}; {score}; EMA weights, step {trained.step}"


def compare_samples(trained, split, settings, *, num_samples, seed=0):
    """Measures of generated rows beside those of a split's whole rows, padding left out: {name: {generated, heldout}}.

    UserError where the split has no whole row.
    """
    prepared, rows = trained.corpus.prepared, trained.rows(split)
    tokenizer = prepared.tokenizer
    if not rows.count:
        raise UserError(
            f"the {split} split does not fill a row of {rows.length} tokens to compare samples with: give --samples=0"
        )
    picked = np.random.default_rng(seed).permutation(rows.count)[: max(num_samples, 256)]
    generated, _ = generate(trained, settings, num_samples=num_samples, seed=seed)
    samples = {"generated": generated, "heldout": [rows.ordered_row(index)[0] for index in picked]}
    samples = {name: [row[row != tokenizer.pad_id] for row in found] for name, found in samples.items()}
    texts = {name: [read_row(tokenizer, row) for row in found] for name, found in samples.items()}
    known = set(quality.word_bigrams(tokenizer.decode(prepared.splits["train"][:BIGRAM_TOKENS])))
    table = trained.corpus.vocabulary.table
    affinity = {
        name: quality.neighbour_affinity(rows, table.ids, table.similarities).mean() for name, rows in samples.items()
    }
    entropy = {name: quality.unigram_entropy(rows) for name, rows in samples.items()}
    floor = quality.bigram_share(quality.shuffled(texts["heldout"]), known)
    share = {name: quality.bigram_share(rows, known) for name, rows in texts.items()}
    return {
        "entropy_nats": {name: float(values.mean()) for name, values in entropy.items()},
        "entropy_standard_error": {name: float(v.std() / np.sqrt(len(v))) for name, v in entropy.items()},
        "basin_index": {name: float(value / affinity["heldout"]) for name, value in affinity.items()},
        "bigrams_in_train": share | {"shuffled": floor},
        "distinct_2": {name: quality.distinct(rows[:num_samples], 2) for name, rows in samples.items()},
    }


def _encode(documents, tokenizer):
    """The token stream of documents, with a bar: a large text takes seconds."""
    with Progress(sum(map(len, documents)), unit="characters", label="encode") as progress:
        return pack(documents, tokenizer, progress.update)


def _table(report):
    """The report for a terminal."""
    nelbo = report["likelihood"]
    lines = [
        f"{'split':<28}{report['split']}: {nelbo['tokens']:,} tokens in {nelbo['sequences']:,} rows",
        f"{'protocol':<28}{report['protocol']}",
        f"{'NELBO':<28}{nelbo['nelbo']:.4f} ± {nelbo['standard_error']:.4f} nats/token "
        f"(integral {nelbo['integral']:.4f}, prior {nelbo['prior']:.4f}, reconstruction {nelbo['reconstruction']:.4f})",
        f"{'perplexity bound':<28}{report['perplexity']:.2f} ± {report['perplexity_standard_error']:.2f}",
        f"{'unigram entropy':<28}{report['unigram_entropy']:.4f} nats/token of the same tokens",
    ]
    if samples := report["samples"]:
        lines += [
            "",
            f"{report['samples_protocol']:<60}{'generated':>12}{'held-out':>12}{'shuffled':>12}",
        ]
        names = {
            "entropy_nats": "entropy of a sequence (nats)",
            "basin_index": "basin index (1 = like held-out)",
            "bigrams_in_train": f"word bigrams that occur in train (its first {BIGRAM_TOKENS // 10**6}M tokens)",
            "distinct_2": "distinct token bigrams",
        }
        for key, label in names.items():
            row = samples[key]
            shuffled = f"{row['shuffled']:>12.3f}" if "shuffled" in row else ""
            lines.append(f"{label:<60}{row['generated']:>12.3f}{row['heldout']:>12.3f}{shuffled}")
    return "\n".join(lines)


def main(options):
    cli.check_output(options.output)
    if options.samples is not None and options.samples < 0:
        raise UserError(f"--samples={options.samples} is negative: give 0 for none")
    if options.draws is not None and options.draws < 1:
        raise UserError(f"--draws={options.draws} scores nothing: give at least 1")
    text = read_text(options.text) if options.text else None
    if text is not None and not text.strip():
        raise UserError(f"--text={options.text} is empty: give a file with text")
    tell(f"reading {options.workdir}")
    trained = assembly.load_trained(options.workdir, options.checkpoint, **cli.load_options(options))
    # Runs recorded before the key existed were scored with one draw.
    trained.config.evaluation.draws = options.draws or trained.config.evaluation.get("draws", 1)
    prepared, evaluation = trained.corpus.prepared, trained.config.evaluation
    if prepared is None:
        raise UserError(f"{options.workdir} was trained on synthetic tokens: there is no text to score")
    data = trained.config.data
    own = data.get("protocol", PROTOCOL)
    data.protocol = options.protocol or own
    # A file is one document, but a row each of its lines where rows are documents.
    documents = [text] if text is None or data.protocol != "padded" else lines_of(text)
    tokens = prepared.splits[options.split] if text is None else _encode(documents, prepared.tokenizer)
    likelihood, protocol = score_likelihood(trained, tokens)
    if data.protocol != own:
        protocol += f", trained on {own} rows"
        data.protocol = own  # whose rows samples are
    counts = np.unique(tokens, return_counts=True)[1]
    frequencies = counts / counts.sum()
    num_samples = evaluation.samples if options.samples is None else options.samples
    samples, samples_protocol = {}, ""
    if num_samples:
        settings = make_settings(
            steps=evaluation.sample_steps,
            strides=1 if isinstance(trained.objective, Autoregressive) else evaluation.strides,
            temperature=evaluation.temperature,
        )
        samples = compare_samples(trained, options.split, settings, num_samples=num_samples)
        samples_protocol = f"{num_samples} samples, {settings}"
    report = {
        "workdir": str(options.workdir),
        "split": options.text or options.split,
        "protocol": protocol,
        "likelihood": dataclasses.asdict(likelihood),
        "perplexity": likelihood.perplexity,
        "perplexity_standard_error": likelihood.perplexity_error,
        "unigram_entropy": float(-np.sum(frequencies * np.log(frequencies))),
        "samples_protocol": samples_protocol,
        "samples": samples,
    }
    print(_table(report))
    if options.output:
        pathlib.Path(options.output).write_text(json.dumps(report, indent=2) + "\n")
        print(f"written to {options.output}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "the work directory of a training run")
    flags.DEFINE_enum("checkpoint", "best", ["best", "latest"], "Which of its checkpoints; its EMA weights are used.")
    cli.define_load_flags()
    flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "Which split is scored and compared with.")
    flags.DEFINE_string("text", None, "A UTF-8 text file to score instead of the split.")
    flags.DEFINE_enum("protocol", None, sorted(PROTOCOLS), "How text becomes rows; by default as the run was trained.")
    flags.DEFINE_integer("samples", None, "Samples to generate; the configuration's number by default, 0 for none.")
    flags.DEFINE_integer(
        "draws", None, "Times a window is corrupted and scored; the configuration's number by default."
    )
    flags.DEFINE_string("output", None, "JSON file for the report.")
    cli.run(lambda: main(flags.FLAGS), required=["workdir"])
