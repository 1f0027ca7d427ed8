"""Tiny vocabularies by the library's own trainers."""

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers


def byte_level(texts, prefix=False, alphabet=True, specials=("<|endoftext|>",)):
    """As GPT-2's: one special for begin and end. alphabet: every byte is a piece."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    backend.decoder = decoders.ByteLevel()
    every = sorted(pre_tokenizers.ByteLevel.alphabet()) if alphabet else []
    settings = {"special_tokens": list(specials), "initial_alphabet": every, "show_progress": False}
    backend.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=400, **settings))
    return backend


def unigram(texts):
    """As T5's."""
    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    settings = {"special_tokens": ["<unk>", "<s>", "[MASK]"], "unk_token": "<unk>", "show_progress": False}
    backend.train_from_iterator(texts, trainers.UnigramTrainer(vocab_size=60, **settings))
    return backend


def whole_words(texts):
    backend = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    backend.pre_tokenizer, backend.normalizer = pre_tokenizers.Whitespace(), normalizers.Lowercase()
    backend.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=["[UNK]"], show_progress=False))
    return backend
