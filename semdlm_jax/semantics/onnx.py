"""The weights of an .onnx file, read from its protocol-buffer bytes without the package `onnx`.

Of a ModelProto only graph (field 7) is read, and of that only initializer (field 5). The file is mapped into memory, so
that what is skipped is not read. https://github.com/onnx/onnx/blob/main/onnx/onnx.proto has the numbers.
"""

import mmap
import pathlib

import numpy as np

from semdlm_jax.errors import UserError
from semdlm_jax.semantics.weights import Weight
from semdlm_jax.storage import PathLike

GRAPH, INITIALIZER = 7, 5
DIMS, DATA_TYPE, FLOAT_DATA, NAME, RAW_DATA, DATA_LOCATION = 1, 2, 4, 8, 9, 14  # of a TensorProto
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types
DTYPES = {1: "<f4", 2: "u1", 3: "i1", 10: "<f2", 11: "<f8"}  # data types that embeddings come in
FLOAT = 1


def read_onnx(path: PathLike) -> list[Weight]:
    """The weights of an .onnx file, in its order. UserError: unreadable, or no .onnx file."""
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        graphs = [graph for number, graph in _fields(data) if number == GRAPH]
        weights = [
            _weight(path, tensor) for graph in graphs for number, tensor in _fields(graph) if number == INITIALIZER
        ]
    except (OSError, ValueError, IndexError, TypeError) as error:
        raise UserError(f"{path}: not a readable .onnx file ({error}): install or export it again") from None
    if not weights:
        raise UserError(f"{path}: not an .onnx file with weights in it: give another")
    return weights


def _weight(path, tensor):
    shape, name, data_type, raw, floats, outside = [], "", 0, None, [], 0
    for number, value in _fields(tensor):
        if number == DIMS:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif number == DATA_TYPE:
            data_type = value
        elif number == NAME:
            name = bytes(value).decode()
        elif number == RAW_DATA:
            raw = value
        elif number == FLOAT_DATA:
            floats.append(bytes(value))  # packed, or one field a number
        elif number == DATA_LOCATION:
            outside = value

    def values():
        if outside or data_type not in DTYPES:
            reason = "kept in another file" if outside else f"of ONNX data type {data_type}"
            raise UserError(f"{path}: {name!r} is {reason}, which is not read here: export it as float32 in one file")
        if raw is None and data_type != FLOAT:
            raise UserError(f"{path}: {name!r} is not kept as raw bytes, which alone are read here: export it again")
        array = np.frombuffer(b"".join(floats) if raw is None else raw, DTYPES[data_type])
        if array.size != np.prod(shape, dtype=int):
            raise UserError(f"{path}: {name!r} holds {array.size} numbers for shape {shape}: the file is damaged")
        return array.reshape(shape)

    return Weight(name, tuple(shape), values)


def _fields(message):
    """(number, value) of each field: an int for a varint, else a memoryview. ValueError when it is no message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, position = _varint(message, position)
            yield number, value
            continue
        if kind == BYTES:
            length, position = _varint(message, position)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind}")
        if position + length > len(message):
            raise ValueError("it ends too early")
        yield number, message[position : position + length]
        position += length


def _varint(message, position):
    """(value, position after it)."""
    value = shift = 0
    while True:
        if position >= len(message) or shift > 63:
            raise ValueError("a number that does not end")
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position


def _varints(message):
    values, position = [], 0
    while position < len(message):
        value, position = _varint(message, position)
        values.append(value)
    return values
