"""From a configuration to the parts of a run: where the rooms meet, shared by train, generate and evaluate."""

import dataclasses
import functools
import pathlib

import jax
import numpy as np
from ml_collections import ConfigDict

from semdlm_jax import checks
from semdlm_jax.errors import UserError
from semdlm_jax.evaluation.likelihood import compile_terms
from semdlm_jax.inputs import Corpus, build_corpus, build_rows, check_unchanged
from semdlm_jax.kernels import kernel_options, make_kernel, make_noise_schedule
from semdlm_jax.network import RULES, Denoiser
from semdlm_jax.objectives import AUTOREGRESSIVE, Autoregressive, Objective, Stages
from semdlm_jax.record import TRAINED_ON, read_config
from semdlm_jax.runtime import mesh as meshes
from semdlm_jax.runtime.checkpoint_reader import CheckpointReader
from semdlm_jax.runtime.checkpoints import Checkpointer
from semdlm_jax.runtime.optimizer import make_optimizer, make_schedule
from semdlm_jax.runtime.state import abstract_tree
from semdlm_jax.samplers import Network

# What may change between two starts of one run: where it runs and how often it reports, never what it computes.
FREE_KEYS = (
    "mesh",
    "evaluation",
    "data.directory",  # a path, as the next: what lies there is bound by Corpus.identity
    "semantics.table",
    "network.unroll",
    "network.attention",
    "training.log_every",
    "training.eval_every",
    "training.checkpoint_every",
    "training.keep_latest",
)
BEST_METRIC = "valid/nelbo"


def build_objective(config, corpus: Corpus):
    """The training loss and, inside it, the kernel and posterior."""
    return _objective(config, corpus, config.kernel.name, config.objective.name)


def build_stages(config, corpus: Corpus):
    """What trains: config.objective, after config.warmup.steps under another kernel."""
    main, warmup = build_objective(config, corpus), config.warmup
    if not warmup.steps:
        return Stages((main,), (0,))
    if getattr(main, "parameterisation", AUTOREGRESSIVE) != "bayes":
        raise UserError(
            f"warmup.steps = {warmup.steps} trains under another kernel first, which only parameterisation 'bayes' can "
            "go on from: set warmup.steps = 0"
        )
    return Stages((_objective(config, corpus, warmup.kernel, warmup.objective), main), (0, warmup.steps))


def build_kernel(config, corpus: Corpus, name):
    """The named kernel with those keys of config.kernel that are options of its own."""
    known = kernel_options(name)
    options = {key: value for key, value in config.kernel.items() if key in known}
    if "schedule" in options:
        options["schedule"] = make_noise_schedule(**options["schedule"])
    return make_kernel(name, corpus.vocabulary, **options)


def _objective(config, corpus, kernel_name, loss_name):
    chain_rule = loss_name == AUTOREGRESSIVE
    if chain_rule != config.network.causal:
        raise UserError(
            f"objective {loss_name!r} needs network.causal = {chain_rule}: "
            "only an autoregressive model reads nothing but the tokens before"
        )
    if chain_rule:
        return Autoregressive(corpus.vocabulary.mask_id, config.objective.chunk)
    kernel = build_kernel(config, corpus, kernel_name)
    return Objective(kernel=kernel, **{**config.objective, "name": loss_name})


def build_score(config, denoiser, objective, mesh, posterior=None):
    """`compile_terms` with what the configuration says of the bound: the same for every system. A row that is not full,
    as the last of any protocol may be, is scored given its length: what fills it is seen by nothing."""
    options = {"t_min": config.evaluation.t_min, "t_max": config.evaluation.t_max, "chunk": config.evaluation.chunk}
    return compile_terms(denoiser, objective, mesh, **options, posterior=posterior, padded=True)


def build_denoiser(config, corpus: Corpus):
    return Denoiser(vocab_size=corpus.vocab_size, **config.network)


def build_network(denoiser: Denoiser, params):
    """What samplers take for a network."""
    return Network(
        lambda tokens, t, lengths: denoiser.features(params, tokens, t, lengths_B=lengths),
        lambda features: denoiser.logits(params, features),
    )


def build_init(denoiser: Denoiser, corpus: Corpus):
    """key -> parameters whose logits start at the train unigram: the first steps need not learn it."""
    if corpus.prepared is None:
        return denoiser.init
    unigram = corpus.prepared.unigram + 0.5
    return functools.partial(denoiser.init, output_bias=np.log(unigram / unigram.sum()))


def build_optimizer(config):
    """(optax transformation, learning rate as a function of the step)."""
    options = dict(config.optimizer)
    del options["ema_decay"]
    shape = {key: options.pop(key) for key in ("learning_rate", "warmup_steps", "decay_fraction", "final_fraction")}
    schedule = make_schedule(options.pop("schedule"), total_steps=config.training.steps, **shape)
    return make_optimizer(options.pop("name"), schedule, **options), schedule


def build_mesh(config):
    return meshes.make_mesh(**config.mesh)


def whole_rows(rows, mesh):
    """`rows` rounded up to what divides over the mesh: what batches of anything but training are padded to."""
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    return -(-rows // shards) * shards


def shard_rule(mesh):
    """abstract tree -> shardings, by the network's rules."""
    return lambda tree: meshes.shardings_from_rules(tree, mesh, RULES)


def checkpoints_of(workdir: str | pathlib.Path) -> pathlib.Path:
    return pathlib.Path(workdir) / "checkpoints"


def make_checkpointer(config: ConfigDict, workdir: str | pathlib.Path) -> Checkpointer:
    """For the training of `workdir`; whoever else reads there takes `make_reader`."""
    return Checkpointer(checkpoints_of(workdir), config.training.keep_latest, best_metric=BEST_METRIC)


def make_reader(workdir: str | pathlib.Path) -> CheckpointReader:
    return CheckpointReader(checkpoints_of(workdir), best_metric=BEST_METRIC)


def read_run(workdir: str | pathlib.Path) -> ConfigDict:
    """The configuration that a run was recorded with, what else is recorded included. UserError: not there, damaged."""
    checks.check_workdir(workdir)
    try:
        return ConfigDict(read_config(workdir))
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # names that no key can have
        raise UserError(f"the record in {workdir} is damaged ({error}): restore its config.json") from None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished or running model, read from its work directory, with EMA parameters on the mesh. programs: what
    `Generator` has compiled of it, gone with the model."""

    config: ConfigDict
    corpus: Corpus
    objective: Objective | Autoregressive
    denoiser: Denoiser
    mesh: jax.sharding.Mesh
    params: dict
    step: int
    programs: dict = dataclasses.field(default_factory=dict, init=False, repr=False, compare=False)

    def rows(self, split):
        """A split's rows, under the run's protocol."""
        return build_rows(self.config, self.corpus.prepared, split)

    @property
    def forbidden(self):
        """[V] bool: ids that no text of a row holds: specials, but for marks of the protocol."""
        never = np.setdiff1d(self.corpus.special_ids, self.rows("train").marks)
        return np.isin(np.arange(self.corpus.vocab_size), never)


def load_trained(workdir, checkpoint="best", *, data_directory=None, trust_kernel=False):
    """Builds the run of a work directory and restores its EMA parameters from the 'best' or 'latest' checkpoint.

    data_directory: where its prepared data lie now; None where they lay at its start. trust_kernel: import the module
    of a kernel of its author's own, which runs that module's code.
    """
    config = read_run(workdir)
    checks.check_recorded(config, workdir, trust_kernel=trust_kernel)
    checks.find_data(config, config, data_directory)
    corpus = build_corpus(config)
    check_unchanged(workdir, config.get(TRAINED_ON, {}), config, corpus)
    objective, denoiser = build_objective(config, corpus), build_denoiser(config, corpus)
    # Elsewhere than it was trained: whatever devices are here share the batch.
    mesh = meshes.make_mesh(-1, 1, 1)
    abstract = abstract_tree(denoiser.init, shard_rule(mesh))
    restored = make_reader(workdir).restore_parts({"ema_params": abstract}, checkpoint)
    if restored is None:
        raise UserError(f"{workdir} holds no checkpoint yet: train it first with python -m semdlm_jax.train")
    parts, step = restored
    return Trained(config, corpus, objective, denoiser, mesh, parts["ema_params"], step)
