"""Files of models on this machine: in a directory, or in the local Hugging Face cache. Nothing is downloaded."""

import pathlib

from huggingface_hub import try_to_load_from_cache

from semdlm_jax.errors import UserError

MOVED = {"gpt2": "openai-community", "bert": "google-bert", "distilbert": "distilbert"}  # first word of a name -> owner


def tokenizer_file(name: str) -> pathlib.Path:
    """The tokenizer.json of a model. UserError: it has none here."""
    directory = pathlib.Path(name).expanduser()
    if directory.is_dir():
        if (directory / "tokenizer.json").is_file():
            return directory / "tokenizer.json"
        raise UserError(f"hf:{name}: {directory} holds no tokenizer.json: give the directory of a model that has one")
    owner = MOVED.get(name.partition("-")[0])
    try:
        for one in [name, *([f"{owner}/{name}"] if owner and "/" not in name else [])]:
            found = try_to_load_from_cache(one, "tokenizer.json")
            if isinstance(found, str):
                return pathlib.Path(found)
    except ValueError:  # of a name that no model can have
        raise UserError(f"hf:{name} is neither a directory nor the name of a model: give OWNER/NAME") from None
    raise UserError(
        f"hf:{name}: neither a directory nor in the local Hugging Face cache, and nothing is downloaded here: "
        f"run `hf download {name} tokenizer.json` where there is a network, or give the directory of the model"
    )
