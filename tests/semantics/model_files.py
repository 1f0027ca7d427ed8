"""Small model files in the formats that are read: .onnx and .safetensors, written from their specifications."""

import json

import ml_dtypes
import numpy as np

ONNX_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7, "float16": 10, "float64": 11}
SAFETENSORS_TYPES = {"float32": "F32", "float16": "F16", "float64": "F64", "bfloat16": "BF16", "int8": "I8"}


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number, value):
    """A varint field of an int, a length-delimited one of bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx_tensor(name, array, packed=True, floats=None, outside=False):
    """A TensorProto. packed: dimensions in one field. floats: None for raw bytes, else how float_data is written."""
    array = np.asarray(array)
    dims = [field(1, b"".join(map(varint, array.shape)))] if packed else [field(1, int(d)) for d in array.shape]
    numbers = array.astype("<f4").ravel() if floats else None
    if floats == "packed":
        data = field(4, numbers.tobytes())
    elif floats == "single":
        data = b"".join(varint(4 << 3 | 5) + number.tobytes() for number in numbers)
    else:
        data = field(9, array.tobytes())
    tail = field(14, 1) if outside else b""
    return b"".join(dims) + field(2, ONNX_TYPES[str(array.dtype)]) + data + field(8, name.encode()) + tail


def write_onnx(path, *tensors):
    """A ModelProto with these initializers, among fields of other kinds."""
    nodes = field(1, field(4, b"Gather"))  # a node, before the initializers
    graph = nodes + field(2, b"graph") + b"".join(field(5, tensor) for tensor in tensors)
    fixed = varint(99 << 3 | 1) + bytes(8)
    path.write_bytes(field(1, 8) + field(2, b"a producer") + fixed + field(7, graph) + field(8, field(2, 17)))
    return path


def write_safetensors(path, **arrays):
    """A file with these arrays; bfloat16 is that of ml_dtypes."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        dtype = "bfloat16" if array.dtype == ml_dtypes.bfloat16 else str(array.dtype)
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": SAFETENSORS_TYPES[dtype], "shape": array.shape, "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_package(folder, name, files):
    """An installed package in `folder`: its metadata, and the files' names in its record."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))
