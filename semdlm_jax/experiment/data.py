"""What a run reads: rows of prepared text and the neighbor table; and the check that they have not changed."""

import dataclasses
import hashlib

import jax
import numpy as np

from semdlm_jax.checks import chosen
from semdlm_jax.data import pipeline
from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.data.prepared import Prepared
from semdlm_jax.data.protocols import PROTOCOLS, make_rows
from semdlm_jax.errors import UserError
from semdlm_jax.kernels import KERNELS, NeighborTable, Vocabulary
from semdlm_jax.runtime.mesh import local_rows
from semdlm_jax.semantics.candidates import prior_tokens
from semdlm_jax.semantics.partitions import build_partitions, fitting_levels
from semdlm_jax.semantics.settings import from_config
from semdlm_jax.semantics.table import load_table, table_path

SYNTHETIC_SPECIALS = (0, 1, 2, 3, 4)
SYNTHETIC_MASK = 4
OF_TABLE = ("neighbor table", "partitions")  # parts of RunData.identity that the file of the table holds


@dataclasses.dataclass(frozen=True)
class RunData:
    """What a run reads.

    Attributes:
        vocabulary: what kernels need to know of the tokens, neighbors included.
        special_ids: ids of tokens that are no text.
        prepared: the splits; None for synthetic data, which have no text and only a train split.
        table_made: how the neighbor table was built. A table named by semantics.table may have been built under another
            configuration.
        reads_partitions: whether a kernel of the run does.
    """

    vocabulary: Vocabulary
    special_ids: tuple[int, ...]
    prepared: Prepared | None
    table_made: dict = dataclasses.field(default_factory=dict)
    reads_partitions: bool = False

    @property
    def vocab_size(self):
        return self.vocabulary.size

    @property
    def table(self) -> NeighborTable:
        """The neighbors; of no token where there is no table."""
        return self.vocabulary.table or NeighborTable.empty(self.vocab_size)

    @property
    def identity(self):
        """{what: digest} of the data that a run's numbers depend on and that its configuration only points to."""
        if self.prepared is None:
            return {}
        known = {
            "vocabulary": self.prepared.tokenizer.fingerprint,
            "text": self.prepared.meta["settings"]["corpus_sha256"],
        }
        if self.vocabulary.table is not None:
            # Ids alone: similarities differ in their last bits from machine to machine.
            known["neighbor table"] = _digest(self.vocabulary.table.ids)
        if self.reads_partitions:  # or a run of another kernel could not go on after they are made anew
            known["partitions"] = _digest(self.vocabulary.partitions)
        return known


def _digest(ids):
    return hashlib.sha256(np.asarray(ids, np.int32).tobytes()).hexdigest()


def build_run_data(config, prepared: Prepared | None = None):
    """Opens the prepared data and the neighbor table.

    Args:
        config: the configuration.
        prepared: instead of opening `config.data.directory`.

    Returns:
        RunData; without neighbors if there is no table, which kernels without neighbors do not need.

    Raises:
        UserError: the data, or the table that semantics.table names, are missing or belong to another vocabulary; or
            there are no partitions, which a kernel reads, or too few synthetic tokens for semantics.blocks.
    """
    if config.data.corpus == "synthetic":
        return RunData(_synthetic_vocabulary(config), SYNTHETIC_SPECIALS, None)
    prepared = prepared or open_prepared(config.data.directory)
    tokenizer = prepared.tokenizer
    settings = {key: config.data[key] for key in prepared.meta["settings"] if key in config.data}
    for key, (then, now) in prepared.differing(settings).items():
        raise UserError(
            f"{config.data.directory} was prepared with {key} = {then!r} but config.data.{key} is {now!r}: prepare "
            "another directory or change the key"
        )
    read, meta = {}, {}
    if config.semantics.table or table_path(config).exists():
        table, meta = load_table(table_path(config), tokenizer.fingerprint)
        neighbors = NeighborTable.from_lists(table.ids, table.similarities, config.kernel.k_max, table.inverted)
        read = {"table": neighbors, "embeddings": table.embeddings, "partitions": table.partitions}
    vocabulary = Vocabulary(
        tokenizer.vocab_size,
        tokenizer.mask_id,
        unigram=prepared.unigram,
        valid=prior_tokens(tokenizer, config.semantics.prior_tokens),
        **read,
    )
    reads = any(KERNELS.find(name).needs_partitions for name in chosen(config, KERNELS))
    if reads:
        vocabulary.require("partitions")
    return RunData(vocabulary, tokenizer.special_ids, prepared, meta, reads)


def _synthetic_vocabulary(config):
    """Tokens on a ring: the neighbors of one are the next K, and blocks are made of consecutive ones."""
    vocab_size = config.data.vocab_size
    ring = (np.arange(vocab_size)[:, None] + 1 + np.arange(config.kernel.k_max)) % vocab_size
    angles = 2 * np.pi * np.arange(vocab_size) / vocab_size
    special = np.isin(np.arange(vocab_size), SYNTHETIC_SPECIALS)
    levels = fitting_levels(from_config(config.semantics).levels, int((~special).sum()))
    # Without vectors and of equal frequency, tokens go to blocks in their order.
    partitions = build_partitions(np.zeros((vocab_size, 1)), np.zeros(vocab_size), special, levels) if levels else None
    return Vocabulary(
        vocab_size,
        SYNTHETIC_MASK,
        table=NeighborTable.from_lists(ring, np.ones(ring.shape)),
        unigram=1000 * ~special,  # often enough that no token is rare
        embeddings=np.stack([np.cos(angles), np.sin(angles)], axis=1),
        partitions=partitions,
    )


def check_unchanged(workdir, trained_on, config, corpus: RunData):
    """Raises UserError if `corpus` is not what the run of `workdir` was trained on.

    Args:
        workdir: of the run.
        trained_on: the RunData.identity that was recorded at its first start; empty if none was.
        config: the configuration that `corpus` was built from.
        corpus: what is there now.
    """
    now = corpus.identity
    for what, then in trained_on.items():
        if now.get(what) != then:
            where = table_path(config) if what in OF_TABLE else config.data.directory
            raise UserError(
                f"{workdir} was trained with another {what} than {where} holds now ({str(then)[:12]}, now "
                f"{now.get(what, 'none')[:12]}): make {where} again as it was, or train in another work directory"
            )


def pads(config):
    """Whether rows of the configuration's protocol may hold padding, which attention must not see."""
    synthetic = config.data.corpus == "synthetic"
    return not synthetic and PROTOCOLS[config.data.protocol].padded


def build_rows(config, prepared: Prepared, split):
    """A split's rows of L tokens, under the configuration's protocol."""
    name, tokens = config.data.protocol, prepared.splits[split]
    return make_rows(name, tokens, config.data.length, prepared.tokenizer, prepared.starts(split))


def train_iterator(config, corpus: RunData, mesh: jax.sharding.Mesh | None = None):
    """The endless stream of training batches (Grain).

    Args:
        config: the configuration.
        corpus: what it reads.
        mesh: if given, only the rows that the devices of this process hold there, as `place_local` takes them; else
            whole batches.
    """
    length, batch_size = config.data.length, config.training.batch_size
    held = None if mesh is None else local_rows(batch_size, mesh)
    if corpus.prepared is None:
        return pipeline.synthetic_iterator(corpus.vocab_size, length, batch_size, config.seed, corpus.special_ids, held)
    rows = build_rows(config, corpus.prepared, "train")
    return pipeline.train_iterator(rows, batch_size, config.seed, held)
