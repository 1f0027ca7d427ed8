"""How loose the bound of a kernel is: the NELBO of a model of token frequencies, minus its true cross-entropy.

    python -m benchmarks.slack --config=configs/quickstart.py
    python -m benchmarks.slack --config=configs/quickstart.py --systems=semdlm_plus,semdlm_plus+kernel.gamma=0.5

The model p(x0 | the other tokens) = the training frequencies has a known likelihood: the cross-entropy of the tokens of
the split. Its posterior given x_t is exact (parameterization `bayes`, whatever the system trains with), so its NELBO
exceeds that cross-entropy because of the kernel alone. The excess is zero for kernels that only jump and for nested
partitions, whose forward process is a Markov chain. Under drift to neighbors, the state x_t of a token depends on x0
even where an earlier state x_s is known; the reverse process does not see this, and the bound becomes loose. A trained
model that predicts a token from other tokens loses less; but comparisons of NELBO between kernels start with this
difference.

Nothing is trained. Columns: NELBO with its standard error over rows, its three terms, and slack: the NELBO minus
the cross-entropy of the same tokens.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from absl import flags

from benchmarks.bakeoff import configure, parse_systems
from semdlm_jax import cli, config_flag
from semdlm_jax.errors import UserError
from semdlm_jax.experiment.build import build_mesh, build_objective
from semdlm_jax.experiment.data import build_run_data
from semdlm_jax.experiment.load import Trained
from semdlm_jax.objectives import make_posterior
from semdlm_jax.scores import score_likelihood

KERNELS = (
    "mdlm,udlm,unigram,gidd,semantic_mask,semdlm_plus,semdlm_plus+kernel.gamma=0.5,semdlm_plus+kernel.gamma=2,"
    "semdlm_plus+kernel.k_max=4,semdlm_plus+kernel.k_max=16,semdlm_softmax,semdlm_knn,"
    "semdlm_nested,semdlm_nested_deep,semdlm_nested_mask,hdlm,tdlm"
)


@dataclasses.dataclass(frozen=True)
class Frequencies:
    """A denoiser that predicts the same distribution everywhere. logits_V: [V]."""

    logits_V: np.ndarray

    def features(self, params, tokens_BxL, t_B, **_):
        return jnp.zeros((*tokens_BxL.shape, 1))

    def logits(self, params, features):
        return features + jnp.asarray(self.logits_V, jnp.float32)


def frequency_model(entry):
    """The frequencies as a `Trained` model under the entry's kernel. UserError: synthetic data, or no kernel."""
    config = configure(entry, 1, 0)
    corpus = build_run_data(config)
    objective = build_objective(config, corpus)
    if corpus.prepared is None:
        raise UserError("synthetic data have no split to score: give the --config of a prepared corpus")
    if objective.exact:
        raise UserError(f"--systems: {entry.name} has an exact likelihood and no bound: leave it out")
    counts = corpus.prepared.unigram + 1
    denoiser = Frequencies(np.log(counts / counts.sum()))
    return Trained(config, corpus, objective, denoiser, build_mesh(config), {}, 0)


def cross_entropy(model, split):
    """The cross-entropy of the scored tokens of a split under the frequencies, in nats per token."""
    rows = model.rows(split)
    scored = np.concatenate([tokens[mask] for tokens, mask in map(rows.ordered_row, range(rows.ordered_count))])
    return -model.denoiser.logits_V[scored].mean()


def main(options):
    rows = []
    models = {entry: frequency_model(entry) for entry in parse_systems(options.systems)}  # all before any long work
    for entry, model in models.items():
        entropy = cross_entropy(model, options.split)
        tokens = model.corpus.prepared.splits[options.split]
        found, protocol = score_likelihood(model, tokens, posterior=make_posterior("bayes"))
        rows.append(
            f"| {entry.name} | {found.nelbo:.3f} ± {found.standard_error:.3f} | {found.integral:.3f} "
            f"| {found.prior:.3f} | {found.reconstruction:.3f} | {found.nelbo - entropy:+.3f} |"
        )
        print(rows[-1], flush=True)
    print(
        f"\n{options.split} split, {found.tokens:,} tokens, whose cross-entropy under the training frequencies is "
        f"{entropy:.3f} nats; {protocol.partition('; EMA')[0]}.\n\n"
        "| kernel of | NELBO | integral | prior | reconstruction | slack |\n| --- | ---: | ---: | ---: | ---: | ---: |"
    )
    print("\n".join(rows))


if __name__ == "__main__":
    config_flag.define_config_flag()
    flags.DEFINE_string("systems", KERNELS, "Comma-separated systems, each with changed keys after plus signs.")
    flags.DEFINE_enum("split", "test", ["train", "valid", "test"], "Which split is scored.")
    cli.run(lambda: main(flags.FLAGS))
