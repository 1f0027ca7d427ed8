"""The weights in model files: .safetensors, read here without a package, and PyTorch's .bin, read with PyTorch."""

import json
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import ml_dtypes
import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.storage import PathLike

# Of .safetensors files.
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16, "I8": "i1", "U8": "u1"}
MAX_HEADER = 100_000_000  # bytes, the format's own bound: what is larger is no such file


class Weight(NamedTuple):
    """A named tensor of a file. shape: its dimensions. values: () -> array, read when called; UserError for a kind of
    number not known here."""

    name: str
    shape: tuple[int, ...]
    values: Callable[[], np.ndarray]


def read_safetensors(path: PathLike) -> list[Weight]:
    """The weights of a .safetensors file: 8 bytes with the length of a JSON header, the header, the numbers.

    UserError: unreadable, damaged, or no such file.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > MAX_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        data = np.memmap(path, np.uint8, "r", offset=8 + length)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        return [_safetensor(path, name, data, **entry) for name, entry in tensors.items()]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a readable .safetensors file ({error}): download it again") from None


def _safetensor(path, name, data, dtype, shape, data_offsets):
    begin, end = data_offsets
    if not 0 <= begin <= end <= len(data):
        raise ValueError(f"{name!r} lies outside the file")

    def values():
        if dtype not in DTYPES:
            raise UserError(f"{path}: {name!r} is stored as {dtype}: only {', '.join(DTYPES)} are read here")
        try:
            return data[begin:end].view(DTYPES[dtype]).reshape(shape)
        except ValueError:
            raise UserError(f"{path}: {name!r} does not fill its shape {shape}: download the file again") from None

    return Weight(name, tuple(shape), values)


def read_torch(path: PathLike) -> list[Weight]:
    """The weights of a pytorch_model.bin. UserError: PyTorch is not installed, or cannot read the file."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{path} needs PyTorch to be read: pip install torch, or download the model's .safetensors file"
        ) from None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return [
            Weight(name, tuple(tensor.shape), lambda tensor=tensor: tensor.float().numpy())
            for name, tensor in state.items()
        ]
    except Exception as error:  # noqa: BLE001  whatever unpickling a damaged file raises
        raise UserError(f"{path}: not a readable PyTorch file ({error}): download it again") from None
