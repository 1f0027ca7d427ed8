"""Turns lines of results into Markdown tables.

    python -m benchmarks.device.table --results=benchmarks/results/wiki.jsonl --output=benchmarks/results/wiki.md

Only systems that can be compared stand in one table: with the same text, number of tokens and protocol. The exact
likelihood of an autoregressive model therefore has a table of its own. A row is a system on one kind of machine.

Columns, means over the seeds that are named:
  NELBO        nats per token of the test split; ± the standard error over rows, or, with several seeds, that of the
               mean over seeds if it is larger
  prior        the prior term of the NELBO
  masked       steps on masked text at the beginning, of all steps
  tokens/s     median over the logged intervals of training
  peak         device memory in training with validation, the largest of the seeds
  parameters   of the network, without tables of the vocabulary
  machine      what trained it; speeds on different machines do not compare
"""

import statistics

from absl import flags

from benchmarks.bakeoff import markdown, mean_nelbo
from benchmarks.lines import read_results
from benchmarks.timing import reporter
from semdlm_jax import cli
from semdlm_jax.errors import UserError

HEADER = ("system", "seeds", "NELBO", "prior", "masked", "tokens/s", "peak", "parameters", "machine")
SAME = ("steps", "tokens", "text", "unigram", "protocol")
ROW = ("system", "machine")


def grouped(results, keys):
    """[[result]] of results that agree in these keys, in the order of the first of each."""
    groups = {}
    for result in results:
        groups.setdefault(tuple(result[key] for key in keys), []).append(result)
    return list(groups.values())


def row(results):
    """One system on one machine, a result a seed, as strings."""
    likelihoods = [result["likelihood"] for result in results]
    peaks = [result["peak_bytes"] for result in results if result["peak_bytes"]]
    return (
        results[0]["system"],
        ", ".join(str(result["seed"]) for result in results),
        mean_nelbo(likelihoods),
        f"{statistics.mean(likelihood['prior'] for likelihood in likelihoods):.3f}",
        f"{results[0]['masked_steps']}",
        f"{statistics.mean(result['tokens_per_second'] for result in results):,.0f}",
        f"{max(peaks) / 1e9:.1f} GB" if peaks else "",
        f"{results[0]['parameters']['network'] / 1e6:.1f}M",
        results[0]["machine"],
    )


def tables(results):
    """The text of all tables. Of lines for one row and seed the last counts."""
    last = {tuple(result[key] for key in (*SAME, *ROW, "seed")): result for result in results}
    texts = []
    for group in grouped(last.values(), SAME):
        first, likelihood = group[0], group[0]["likelihood"]
        rows = sorted((row(of_one) for of_one in grouped(group, ROW)), key=lambda row: float(row[2].split()[0]))
        texts.append(
            f"{first['tokens']:,} tokens a run in {first['steps']:,} steps; test split, "
            f"{likelihood['tokens']:,} tokens, unigram entropy {first['unigram']:.3f}; {first['protocol']}.\n\n"
            f"{markdown(rows, HEADER)}"
        )
    return "\n\n".join(texts)


def main(options):
    cli.check_output(options.output)
    results = read_results(*options.results)
    if not results:
        raise UserError(f"--results={','.join(options.results)}: no result there yet: run a job first")
    reporter(options.output)("# Systems after equal tokens", "", tables(results))


if __name__ == "__main__":
    flags.DEFINE_list("results", None, "the files of lines, as a job writes them")
    flags.DEFINE_string("output", None, "Markdown file for the tables.")
    cli.run(lambda: main(flags.FLAGS), required=("results",), needs=())
