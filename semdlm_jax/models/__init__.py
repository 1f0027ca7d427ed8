"""Trained models by name: those that come with the package, folders, and models of the Hugging Face Hub."""

import os
import pathlib

from semdlm_jax import remote
from semdlm_jax.errors import UserError, nearest
from semdlm_jax.extras import require

HUB = "hf:"
_HERE = pathlib.Path(__file__).parent


def names() -> list[str]:
    """The models that come with the package."""
    return sorted(path.name for path in _HERE.iterdir() if path.is_dir() and not path.name.startswith(("_", ".")))


def find(given: str | os.PathLike) -> pathlib.Path:
    """The folder that `given` stands for: one of `names()`, 'hf:OWNER/NAME' of the Hub or its cache, an address of a
    store, or a path itself.

    UserError: it is none, or cannot be downloaded.
    """
    if not isinstance(given, str | os.PathLike):
        raise UserError(f"{given!r:.80} is no name or folder of a model: give one of {', '.join(names())}, or a path")
    text = os.fspath(given)
    if text in names():
        return _HERE / text
    if text.startswith(HUB):
        return _download(text.removeprefix(HUB))
    folder = remote.local(text, again=True).expanduser()
    if not folder.exists():
        raise UserError(
            f"there is no folder {text}, and no model of that name in the package: {nearest(text, names())}"
        )
    return folder


def _download(name):
    """The folder of a model's snapshot in the Hub's cache, brought up to date where the Hub can be reached."""
    require("huggingface_hub", use=f"{HUB}{name}")
    from huggingface_hub import snapshot_download

    try:
        return pathlib.Path(snapshot_download(name))
    except Exception as error:  # of the network, the Hub, the name: the library has no common one
        raise UserError(f"{HUB}{name} cannot be had from the Hub or its cache: {_cause(error)}") from None


def check_push(given: str) -> str:
    """OWNER/NAME of 'hf:OWNER/NAME', asked before long work. UserError: it is none, or nobody is logged in."""
    name = given.removeprefix(HUB)
    require("huggingface_hub", use=f"--push_to={given}")
    from huggingface_hub import get_token
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except ValueError as error:
        raise UserError(f"--push_to={given} is no name of a model: give hf:OWNER/NAME ({_cause(error)})") from None
    if not given.startswith(HUB):
        raise UserError(f"--push_to={given} is no model of the Hub: give hf:{name}")
    if get_token() is None:
        raise UserError(f"--push_to={given} needs a login at the Hub: run `hf auth login`, or set HF_TOKEN")
    return name


def push(folder: pathlib.Path, name: str) -> str:
    """Uploads a folder as the Hub's model `name`; returns its address. UserError: the Hub takes it not."""
    import huggingface_hub

    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(name, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder)
    except Exception as error:
        raise UserError(f"{folder} is written but not uploaded to {HUB}{name}: {_cause(error)}") from None
    return str(address)


def _cause(error):
    return " ".join(f"{type(error).__name__} {error}".split())[:300]
