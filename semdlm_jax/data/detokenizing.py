"""Published text back from the form that its authors split into words: the replacements with which MDLM scores it.

Each function takes a document and returns it. The replacements are MDLM's, in its order, with what is odd about them,
since a perplexity compares only where the text is the same.
"""

import re
from collections.abc import Sequence

# Marks that lose the space before them.
_AFTER_WORDS = [(f" {mark} ", f"{mark} ") for mark in ":;.!?,"]
_WIKITEXT_NUMBERS = [(" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", ".")]
# Spaces within a pair of marks.
_WIKITEXT_PAIRS = [
    (r"\(\s*([^)]*?)\s*\)", r"(\1)"),
    (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
    (r"{\s*([^}]*?)\s*}", r"{\1}"),
    (r'"\s*([^"]*?)\s*"', r'"\1"'),
    (r"'\s*([^']*?)\s*'", r"'\1'"),
]
_WIKITEXT_REST = [
    ("= = = =", "===="),
    ("= = =", "==="),
    ("= =", "=="),
    (" ° ", "°"),
    (" \n", "\n"),
    ("\n ", "\n"),
    (" N ", " 1 "),
    (" 's", "'s"),
]
_PTB_WORDS = [(" 's", "'s"), ("s ' ", "s' "), (" n't", "n't"), (" \n ", "\n"), ("\\/", "/")]
_PTB_NUMBERS = [("$ 1", "$1"), ("# 1", "#1"), ("<unk>", "?")]
_LM1B_PAIRS = [
    (r'" ([^"]+) "', r'"\1"'),
    (r"' ([^']+) '", r"'\1'"),
    (r"\( ([^()]+) \)", r"(\1)"),
    (r"\[ ([^\[\]]+) \]", r"[\1]"),
]


def wikitext(text: str) -> str:
    """WikiText: '@-@' and its like, and the spaces around punctuation and within brackets and quotes."""
    # Left out: MDLM looks for /' 9/, slashes included, which text does not have, to write the pattern itself there.
    text = _replaced(text.replace("s '", "s'"), _WIKITEXT_NUMBERS + _AFTER_WORDS)
    return _replaced(_substituted(text, _WIKITEXT_PAIRS), _WIKITEXT_REST)


def ptb(text: str) -> str:
    """Penn Treebank: contractions, N for a number (written 1), and <unk> (written ?)."""
    text = _replaced(text, _PTB_WORDS)
    # Neighbors share a space, so that a pass takes every second one of a run; MDLM makes ten.
    return _replaced(_replaced(text, [(" N ", " 1 ")] * 10), _PTB_NUMBERS)


def lm1b(text: str) -> str:
    """The One Billion Word Benchmark: contractions, the spaces around punctuation, quotes, brackets and currencies."""
    text = _replaced(text, [("http : / / ", "http://"), ("https : / / ", "https://")])
    text = _substituted(text, [(r" '(\w+)", r"'\1"), (r" (\w+) \. ", r" \1. "), (r" (\w+) \.$", r" \1.")])
    for mark in "?!":
        text = re.sub(rf" \{mark}$", mark, text.replace(f" {mark} ", f"{mark} "))
    text = _replaced(text, [(" , ", ", "), (" : ", ": "), (" ; ", "; "), (" / ", "/")])
    return _replaced(_substituted(text, _LM1B_PAIRS), [("$ ", "$"), ("£ ", "£")])


def lambada(text: str) -> str:
    """LAMBADA: straight quotes, and a line break before the passage."""
    return "\n" + _replaced(text, [("“", '"'), ("”", '"')]).strip()


def scientific(text: str) -> str:
    """PubMed and arXiv papers: as WikiText, then as the One Billion Word Benchmark."""
    return lm1b(wikitext(text))


def _replaced(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def _substituted(text: str, pairs: Sequence[tuple[str, str]]) -> str:
    for pattern, new in pairs:
        text = re.sub(pattern, new, text)
    return text
