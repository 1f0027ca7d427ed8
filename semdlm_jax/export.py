"""Exports a trained model as one folder that works anywhere.

    python -m semdlm_jax.export --workdir=runs/mine --output=mine

The folder needs neither the run nor its data:

    python -m semdlm_jax.generate --model=mine --prompt="my fellow citizens"
    python -m semdlm_jax.evaluate --model=mine --text=letter.txt
    semdlm_jax.load("mine")                     in Python

It contains the EMA weights (safetensors), the configuration without paths of this machine, the vocabulary, the neighbor
table and a model card, README.md. It is the same model: equal seeds give equal text and scores.

    --split=test                        scores the exported weights on a split of the run's data, for the card
    --dtype=float16                     half the size; scores stay the same within noise, as --split shows
    --push_to=hf:OWNER/NAME             uploads the folder to the Hugging Face Hub, where --model=hf:OWNER/NAME finds it

An interrupted export leaves no folder of that name.
"""

import dataclasses
import os
import pathlib

from absl import flags

from semdlm_jax import checks, cli, models, remote
from semdlm_jax.data.store import appearing, locked
from semdlm_jax.errors import UserError
from semdlm_jax.experiment import card, portable
from semdlm_jax.experiment.load import Trained, load_trained, make_reader
from semdlm_jax.report.table import likelihood_lines
from semdlm_jax.runtime.progress import tell
from semdlm_jax.storage import storage_errors, write_text
from semdlm_jax.subject import Subject


def export(trained: Trained, output: pathlib.Path, **about) -> None:
    """Writes the portable model of a run, whole or not at all.

    Args:
        trained: the run.
        output: a folder that does not exist or is empty.
        about: the dtype of the stored weights, the split to score, and further arguments of `card.text`.

    Raises:
        UserError: the folder cannot be written.
    """
    dtype, split = about.pop("dtype", "float32"), about.pop("split", None)
    with storage_errors(output), locked(output, tell), appearing(output) as partial:
        portable.write(trained, partial, dtype)
        # The written weights are scored, because rounding changes scores.
        exported = dataclasses.replace(trained, params=load_trained(partial).params)
        report = score(exported, split) if split else None
        write_text(partial / portable.CARD, card.text(exported, dtype=dtype, report=report, name=output.name, **about))


def score(trained: Trained, split: str) -> str:
    """The likelihood of a split, as `evaluate` shows it."""
    subject = Subject(trained, trained.rows(split), name="", split=split)
    return "\n".join(likelihood_lines({"split": split}, subject.score()))


def check_folder(output: str) -> pathlib.Path:
    """The absolute path of a new folder. UserError: something is there already, or nothing can be written there."""
    folder = pathlib.Path(output).absolute()
    if os.path.lexists(folder) and not (folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())):
        raise UserError(f"--output={output} is there already: give the name of a new folder")
    checks.check_workdir(folder.parent, written=True, flag="output")
    return folder


def main(options):
    output = check_folder(options.output)
    pushed = options.push_to and models.check_push(options.push_to)
    if portable.is_portable(options.workdir):
        raise UserError(f"--workdir={options.workdir} is a portable model already: copy it, or give the run itself")
    tell(f"reading {options.workdir}")
    trained = load_trained(options.workdir, **cli.load_options(options))
    if trained.corpus.prepared is None:
        raise UserError(f"{options.workdir} was trained on synthetic tokens: there is no vocabulary to export")
    recorded = make_reader(remote.local(options.workdir)).metrics(trained.step)
    export(trained, output, dtype=options.dtype, split=options.split, recorded=recorded, license_name=options.license)
    print(f"step {trained.step} of {options.workdir} written to {options.output}")
    if pushed:
        print(f"uploaded to {models.push(output, pushed)}")


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "the work directory of a training run")
    flags.DEFINE_string("output", None, "the folder to write; it is created")
    cli.define_load_flags()
    flags.DEFINE_enum(
        "split", None, ["valid", "test"], "A split of the run's data to score for the card. Default: none."
    )
    flags.DEFINE_enum("dtype", "float32", list(portable.DTYPES), "The dtype of the stored weights.")
    flags.DEFINE_string("license", None, "The license of the weights, for the card: apache-2.0, mit, …")
    flags.DEFINE_string(
        "push_to", None, "A model of the Hugging Face Hub to upload to, hf:OWNER/NAME. It is created if it is new."
    )
    cli.run(lambda: main(flags.FLAGS), required=["workdir", "output"], compiles=True)
