"""What is read and changed of a serialized SentencePiece model, as classes of protocol buffers.

The package sentencepiece has such classes too, but those of 0.2.3 refuse every protobuf before 7.36.1, and Apache Beam
needs an older one. Fields that are not listed here are kept as they are.
https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto has the numbers.
"""

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
# message: {field: (number, whether there are many, type or name of its message)}
FIELDS: dict[str, dict[str, tuple[int, bool, Any]]] = {
    "SentencePiece": {
        "piece": (1, False, _Field.TYPE_STRING),
        "score": (2, False, _Field.TYPE_FLOAT),
        "type": (3, False, _Field.TYPE_INT32),
    },
    "TrainerSpec": {
        "control_symbols": (30, True, _Field.TYPE_STRING),
        "unk_piece": (45, False, _Field.TYPE_STRING),
        "bos_piece": (46, False, _Field.TYPE_STRING),
        "eos_piece": (47, False, _Field.TYPE_STRING),
        "pad_piece": (48, False, _Field.TYPE_STRING),
    },
    "NormalizerSpec": {"add_dummy_prefix": (3, False, _Field.TYPE_BOOL)},
    "ModelProto": {
        "pieces": (1, True, "SentencePiece"),
        "trainer_spec": (2, False, "TrainerSpec"),
        "normalizer_spec": (3, False, "NormalizerSpec"),
    },
}
UNKNOWN, CONTROL, UNUSED = 2, 3, 5  # types of pieces that no text has


def _model_class() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="semdlm_jax/model.proto", package="semdlm_jax", syntax="proto2")
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for name, (number, many, kind) in fields.items():
            label = _Field.LABEL_REPEATED if many else _Field.LABEL_OPTIONAL
            field = described.field.add(name=name, number=number, label=label)
            if isinstance(kind, str):
                field.type, field.type_name = _Field.TYPE_MESSAGE, f".semdlm_jax.{kind}"
            else:
                field.type = kind
    pool = descriptor_pool.DescriptorPool()  # not the one that the package's own classes are in
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("semdlm_jax.ModelProto"))


ModelProto = _model_class()
