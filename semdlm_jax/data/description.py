"""A tokenizer.json of Hugging Face's `tokenizers`, closed to text that spells a special, with the specials we need."""

import copy
import dataclasses
import json
from typing import Any

from semdlm_jax.errors import UserError

MARK = "▁"  # of a space
CLOSED = "\0"  # begins what the library calls a special: files and command lines hold no such character
MAX_SIZE = 2**21
# Names of padding, unknown, begin, end and mask among a file's specials; the first is given where it has none.
ROLES = (
    ("<pad>", "[PAD]", "<|padding|>", "<|pad|>"),
    ("<unk>", "[UNK]", "<|unk|>"),
    ("<s>", "[CLS]", "[BOS]", "<bos>", "<|begin_of_text|>", "<|startoftext|>"),
    ("</s>", "[SEP]", "[EOS]", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
    ("<mask>", "[MASK]", "<|mask|>"),
)
UNKNOWN = 1  # its place in ROLES


@dataclasses.dataclass(frozen=True)
class Described:
    """library: the tokenizer.json for the library, every piece in its model, specials under names that no text holds.
    pieces: V strings, the file's own names first. special_ids: sorted. roles: ids of ROLES. byte_level: whether pieces
    are spelled in bytes. continuing: what pieces that go on with a word begin with, '' for nothing."""

    library: dict
    pieces: tuple[str, ...]
    special_ids: tuple[int, ...]
    roles: tuple[int, ...]
    byte_level: bool
    continuing: str


def describe(text: str) -> Described:
    """UserError, without the file's name: `text` is no such description, or ids are far apart."""
    try:
        library = json.loads(text)
        return _describe(library, library["model"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        cause = " ".join(f"{type(error).__name__} {error}".split())
        raise UserError(f"no vocabulary of Hugging Face's tokenizers ({cause}): give its tokenizer.json") from None


def _describe(library, model):
    unigram = isinstance(model["vocab"], list)
    scores = [score for _, score in model["vocab"]] if unigram else []
    ids = {piece: i for i, (piece, _) in enumerate(model["vocab"])} if unigram else dict(model["vocab"])
    added = library.get("added_tokens") or []
    for token in added:
        ids.setdefault(token["content"], token["id"])
    size = 1 + max(ids.values(), default=-1)
    if size > MAX_SIZE or not all(isinstance(i, int) and i >= 0 for i in ids.values()):
        raise ValueError(f"ids beyond {MAX_SIZE:,}, or none")
    special = {ids[token["content"]] for token in added if token["special"]} | set(range(size)) - set(ids.values())
    pieces = [f"<unused {i}>" for i in range(size)]
    for piece, i in ids.items():
        pieces[i] = piece
    own = model.get("unk_id") if unigram else ids.get(model.get("unk_token"))
    roles = _roles(pieces, special, own)
    special |= set(roles)
    names = [CLOSED + piece if i in special else piece for i, piece in enumerate(pieces)]
    least = min(scores, default=0.0)
    model = model | {"vocab": {name: i for i, name in enumerate(names)}, "unk_token": names[roles[UNKNOWN]]}
    if unigram:
        padded = scores + [least] * (len(names) - len(scores))
        model |= {"vocab": [list(pair) for pair in zip(names, padded, strict=True)], "unk_id": roles[UNKNOWN]}
        del model["unk_token"]
    if "dropout" in model:
        model["dropout"] = None  # the same text has the same ids
    library = library | {"model": model, "added_tokens": [token for token in added if not token["special"]]}
    library |= {"post_processor": None, "truncation": None, "padding": None}
    library.setdefault("version", "1.0")
    byte_level = '"ByteLevel"' in json.dumps([library.get("pre_tokenizer"), library.get("decoder")])
    continuing = model.get("continuing_subword_prefix") or ""
    return Described(library, tuple(pieces), tuple(sorted(special)), roles, byte_level, continuing)


def _roles(pieces, special, own) -> tuple[int, ...]:
    """Ids of ROLES: of the specials those with such a name, else new ones, which are appended to `pieces`. own: the id
    that the model gives to what it does not know, or None."""
    found = {i: index for i in sorted(special) for index, names in enumerate(ROLES) if pieces[i] in names and i != own}
    roles: list[Any] = [next((i for i, index in found.items() if index == role), None) for role in range(len(ROLES))]
    roles[UNKNOWN] = roles[UNKNOWN] if own is None else own
    for role, index in enumerate(roles):
        if index is None:
            roles[role] = len(pieces)
            pieces.append(ROLES[role][0])
    return tuple(roles)


def without_prefix(library: dict) -> dict:
    """The description without the space that it puts before every text."""
    library = copy.deepcopy(library)
    for name in ("normalizer", "pre_tokenizer"):
        library[name] = _plain(library.get(name))
    return library


def _plain(part):
    if not isinstance(part, dict) or part.get("type") == "Prepend":
        return None
    for name in ("normalizers", "pretokenizers"):
        if name in part:
            part[name] = [kept for kept in map(_plain, part[name]) if kept is not None]
    if "add_prefix_space" in part:
        part["add_prefix_space"] = False
    if part.get("type") == "Metaspace":
        part["prepend_scheme"] = "never"
    return part
