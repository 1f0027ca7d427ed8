"""From a configuration to the parts of a run: where the rooms meet."""

import functools

import jax
import numpy as np

from semdlm_jax.checks import chosen
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.likelihood import compile_terms
from semdlm_jax.experiment.data import RunData
from semdlm_jax.kernels import KERNELS
from semdlm_jax.network import RULES, Denoiser
from semdlm_jax.objectives import AUTOREGRESSIVE, Autoregressive, Scoring, Stages, pick_objective
from semdlm_jax.runtime import mesh as meshes
from semdlm_jax.runtime.optimizer import LEARNING_RATES, OPTIMIZERS
from semdlm_jax.samplers import Network


def build_objective(config, corpus: RunData):
    """The training loss and, inside it, the kernel and posterior."""
    return _objective(config, corpus, config.kernel.name, config.objective.name)


def build_stages(config, corpus: RunData):
    """What trains: config.objective, after config.warmup.steps under another kernel. These have no clean contexts: they
    are there to learn from whole rows of noise."""
    main, warmup = build_objective(config, corpus), config.warmup
    if not warmup.steps:
        return Stages((main,), (0,))
    if not main.any_kernel:
        raise UserError(
            f"warmup.steps = {warmup.steps} trains under another kernel first, which only parameterization 'bayes' can "
            "go on from: set warmup.steps = 0"
        )
    first = _objective(config, corpus, warmup.kernel, warmup.objective, clean_rows=0.0)
    return Stages((first, main), (0, warmup.steps))


def build_kernel(config, corpus: RunData, name):
    """The named kernel with those keys of config.kernel that are options of its own."""
    spec = KERNELS.pick(name, config.kernel)
    kernel = spec.build(corpus.vocabulary)
    if kernel.num_states != (known := corpus.vocab_size + spec.num_symbols(corpus.vocabulary)):
        raise UserError(
            f"kernel {name!r} has {kernel.num_states} states, but {known} tokens and symbols: let num_symbols of "
            f"{type(spec).__name__} return the states beyond the {corpus.vocab_size} tokens"
        )
    return kernel


def _objective(config, corpus, kernel_name, loss_name, **changes):
    chain_rule = loss_name == AUTOREGRESSIVE
    if chain_rule != config.network.causal:
        raise UserError(
            f"objective {loss_name!r} needs network.causal = {chain_rule}: "
            "only an autoregressive model reads nothing but the tokens before"
        )
    if chain_rule:
        return Autoregressive(corpus.vocabulary.mask_id, config.objective.chunk)
    return pick_objective(loss_name, build_kernel(config, corpus, kernel_name), {**config.objective, **changes})


def build_score(config, denoiser, objective, mesh, posterior=None):
    """`compile_terms` with what the configuration says of the bound."""
    return compile_terms(denoiser, objective, mesh, scoring_of(config), posterior)


def scoring_of(config) -> Scoring:
    """What the configuration says of the bound: the same for every system. A row that is not full, as the last of any
    protocol may be, is scored given its length: what fills it is seen by nothing."""
    evaluation = config.evaluation
    return Scoring(evaluation.t_min, evaluation.t_max, evaluation.chunk, padded=True)


def build_denoiser(config, corpus: RunData):
    """The network; it reads the symbols of all kernels that it trains under."""
    specs = [KERNELS.pick(name, config.kernel) for name in chosen(config, KERNELS)]
    symbols = max((spec.num_symbols(corpus.vocabulary) for spec in specs), default=0)
    return Denoiser(vocab_size=corpus.vocab_size, symbols=symbols, **config.network)


def build_network(denoiser: Denoiser, params):
    """What samplers take for a network."""

    def features(tokens, t, lengths, clean):
        return denoiser.features(params, tokens, t, lengths_B=lengths, clean_BxL=clean)

    return Network(features, lambda features: denoiser.logits(params, features), reads_clean=True)


def build_init(denoiser: Denoiser, corpus: RunData):
    """key -> parameters whose logits start at the train unigram: the first steps need not learn it."""
    if corpus.prepared is None:
        return denoiser.init
    unigram = corpus.prepared.unigram + 0.5
    return functools.partial(denoiser.init, output_bias=np.log(unigram / unigram.sum()))


def build_optimizer(config):
    """(optax transformation, learning rate as a function of the step)."""
    options = config.optimizer
    schedule = LEARNING_RATES.pick(options.schedule, options).build(config.training.steps)
    return OPTIMIZERS.pick(options.name, options).build(schedule), schedule


def build_mesh(config):
    return meshes.make_mesh(**config.mesh)


def whole_rows(rows, mesh):
    """`rows` rounded up to what divides over the mesh: what batches of anything but training are padded to."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    return -(-rows // shards) * shards


def shard_rule(mesh):
    """abstract tree -> shardings, by the network's rules."""
    return lambda tree: meshes.shardings_from_rules(tree, mesh, RULES)


def count_parameters(params) -> dict[str, int]:
    """{'network' or a table that grows with the vocabulary: its parameters}. params: a tree of arrays or shapes."""
    sizes = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in params.items()}
    tables = {name: sizes.pop(name, 0) for name in ("embed", "output", "output_bias")}
    return {"network": sum(sizes.values()), **tables}


def describe(params, denoiser: Denoiser) -> str:
    """Parameter counts, with the tables that grow with the vocabulary apart. params: a tree of arrays or shapes."""
    counts = count_parameters(params)
    return (
        f"{counts['network']:,} parameters in the network, {counts['embed']:,} in the embedding table, "
        f"{counts['output'] + counts['output_bias']:,} in the output {'bias' if denoiser.tied_output else 'table'}"
    )
