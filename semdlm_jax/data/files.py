"""Reading text files, with every fault told in a sentence."""

import pathlib

from semdlm_jax.errors import UserError


def read_text(path):
    """The contents of a plain text file. UserError: unreadable, not strict UTF-8, or holding NUL bytes."""
    try:
        text = pathlib.Path(path).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): give the path of a UTF-8 text file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}): convert it to UTF-8") from None
    if "\0" in text:
        raise UserError(f"{path}: holds NUL bytes, so it is not plain text: convert it to UTF-8")
    return text
