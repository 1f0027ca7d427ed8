"""Neighbour tables: built, and looked into.

python -m semdlm_jax.semantics build --config=configs/quickstart.py [flags]
    The table of a prepared corpus, written beside it; flags and --config.semantics.… keys say how.

python -m semdlm_jax.semantics build --tokenizer=bert-base-uncased --embeddings=package:NAME --output=table.npz [flags]
    The table of a vocabulary alone: no token is too rare, and embeddings come from elsewhere.

python -m semdlm_jax.semantics inspect TABLE.npz [words] [--shown=N] [--hubs=N]
    Neighbours of the words with their cosines, in-degrees, empty rows and hubs. '##ing' is the piece that goes on with
    a word, in either kind of vocabulary; words that begin with -- follow a lone --.
"""

import dataclasses
import sys

from absl import flags

from semdlm_jax import cli, config_flag
from semdlm_jax.data.prepare import open_prepared
from semdlm_jax.data.tokenizers import given_tokenizer
from semdlm_jax.errors import UserError, choose
from semdlm_jax.semantics import inspection
from semdlm_jax.semantics.build import build_table
from semdlm_jax.semantics.settings import CHARACTERS, HUBNESS, PRIOR_TOKENS, TableSettings, from_config
from semdlm_jax.semantics.table import read_notes, read_table, table_path

COMMANDS = {"build": "a table", "inspect": "one"}
# Flags that change a key of the configuration's semantics section where they are given.
KEYS = (
    "embeddings",
    "centre",
    "remove_components",
    "hubness",
    "max_in_degree",
    "min_count",
    "characters",
    "separate_continuations",
    "prior_tokens",
)


def define_build_flags(with_config=True):
    """Defines the flags of `build`."""
    if with_config:
        config_flag.define_config_flag()
    flags.DEFINE_string(
        "tokenizer", None, "instead of --config, a vocabulary that is not learnt: as data.tokenizer names one"
    )
    flags.DEFINE_string(
        "output",
        None,
        "where the table goes; default: where training reads it, semantics.table or else beside the corpus",
    )
    flags.DEFINE_integer("k", None, "[as in config.semantics] neighbours stored a token, semantics.neighbours")
    flags.DEFINE_string(
        "embeddings", None, "[as in config.semantics] ppmi (the corpus itself), package:NAME, hf:NAME or checkpoint:DIR"
    )
    flags.DEFINE_bool("centre", None, "[as in config.semantics] remove the mean of all vectors")
    flags.DEFINE_integer("remove_components", None, "[as in config.semantics] top principal components to remove")
    flags.DEFINE_enum("hubness", None, list(HUBNESS), "[as in config.semantics] what keeps hubs from every list")
    flags.DEFINE_integer("max_in_degree", None, "[as in config.semantics] lists that may hold one token, for cap")
    flags.DEFINE_integer("min_count", None, "[as in config.semantics] occurrences below which a token has no row")
    flags.DEFINE_enum("characters", None, list(CHARACTERS), "[as in config.semantics] of tokens with neighbours")
    flags.DEFINE_bool(
        "separate_continuations", None, "[as in config.semantics] keep pieces that go on with a word among themselves"
    )
    flags.DEFINE_enum(
        "prior_tokens", None, list(PRIOR_TOKENS), "[as in config.semantics] what the unigram prior may produce"
    )


def build(config=None, tokenizer=None, output=None, **changes):
    """Builds from config.data.directory with config.semantics, or for a tokenizer alone, and prints what came of it.

    config: ConfigDict. tokenizer: as data.tokenizer names one. output: path of the table; None for where a run of the
    config reads it.
    changes: {field of TableSettings: value}, None where not given. UserError: both or neither of the first two, or a
    tokenizer without output.
    """
    if (config is None) == (tokenizer is None):
        raise UserError("give either --config, of a prepared corpus, or --tokenizer, for a vocabulary alone")
    cli.check_output(output)
    changes = {key: value for key, value in changes.items() if value is not None}
    settings = dataclasses.replace(TableSettings() if config is None else from_config(config.semantics), **changes)
    if config is None:
        if output is None:
            raise UserError("--tokenizer has no corpus to write the table beside: give --output=table.npz")
        prepared, vocabulary = None, given_tokenizer(tokenizer, lowercase=True)
        if vocabulary is None:
            raise UserError(
                f"--tokenizer={tokenizer} is learnt from a corpus: give --config of it, or {tokenizer}:PATH"
            )
    else:
        prepared = open_prepared(config.data.directory)
        vocabulary = prepared.tokenizer
        if output is None:
            output = table_path(config)
            cli.check_output(output, "config.semantics.table")
    table = build_table(vocabulary, settings, output, prepared, lambda line: print(line, flush=True))
    print(inspection.describe(vocabulary.pieces, table.ids, None if prepared is None else prepared.unigram))
    print(f"written to {output}")


def inspect(words, shown, hubs):
    """Prints what the table at words[0] holds of the other words. UserError: no table named, or a word unknown."""
    if not words:
        raise UserError("inspect needs a table: give the path of an .npz file, then words")
    path, *words = words
    table, fingerprint, meta = read_table(path)
    notes = read_notes(path)
    print(f"{path}: vocabulary {fingerprint[:12]}, {table.ids.shape[1]} neighbours at most, {meta['embeddings']}")
    print(inspection.inspect(table, notes, words, shown, hubs))


def main(command, words):
    """Runs the command once its flags are parsed."""
    given = flags.FLAGS
    if command is None:
        raise UserError("give a command first: build or inspect; --help tells more")
    choose("command", command, COMMANDS)
    if command == "inspect":
        inspect(words, given.shown, given.hubs)
    else:
        config = given.config if "config" in given else None
        build(config, given.tokenizer, given.output, neighbours=given.k, **{key: given[key].value for key in KEYS})


def split_arguments(argv):
    """(command or None, words, argv of flags alone). Words are what `inspect` takes besides flags."""
    program, *rest = argv
    command = rest.pop(0) if rest and not rest[0].startswith("-") else None
    if command != "inspect":
        return command, [], [program, *rest]
    end = rest.index("--") if "--" in rest else len(rest)
    before, after = rest[:end], rest[end + 1 :]
    words = [argument for argument in before if not argument.startswith("--")]
    return command, [*words, *after], [program, *(argument for argument in before if argument.startswith("--"))]


if __name__ == "__main__":
    COMMAND, WORDS, sys.argv[:] = split_arguments(sys.argv)
    if COMMAND == "inspect":
        flags.DEFINE_integer("shown", 10, "neighbours of each word")
        flags.DEFINE_integer("hubs", 10, "tokens of largest in-degree")
    elif COMMAND == "build" or "--help" in sys.argv:
        # Where --config is defined it must be given.
        define_build_flags("--config" in str(sys.argv) or "--tokenizer" not in str(sys.argv))
    cli.run(lambda: main(COMMAND, WORDS), needs=["data.directory", "semantics"])
