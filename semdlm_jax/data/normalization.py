"""One spelling of a text for a learned vocabulary: what training, prompts and scoring have in common."""

import re
import unicodedata

_ASCII = {
    **dict.fromkeys(map(ord, "‘’‚‛′"), "'"),
    **dict.fromkeys(map(ord, "“”„‟″«»"), '"'),
    **dict.fromkeys(map(ord, "‐‑‒–−"), "-"),
    **dict.fromkeys(map(ord, "—―"), "--"),
    **dict.fromkeys(map(ord, "\u00ad\u200b\ufeff")),  # soft hyphen, zero-width space, byte order mark: dropped
    ord("⁄"): "/",  # what NFKC makes of ½
    ord("▁"): "_",  # SentencePiece's own mark for a space
    **dict.fromkeys((*range(9), *range(14, 28), *range(127, 133), *range(134, 160)), " "),  # control characters
}
_BREAKS = "\n\v\f\r\x85\u2028\u2029"


def normalize(text, lowercase):
    """NFKC, ASCII quotes and dashes, single spaces, every run of line or paragraph breaks one newline. Idempotent."""
    text = unicodedata.normalize("NFKC", text.translate(_ASCII)).translate(_ASCII)  # NFKC takes some quotes apart
    if lowercase:
        text = unicodedata.normalize("NFKC", text.lower())
    text = re.sub(rf"[^\S{_BREAKS}]+", " ", text)
    return re.sub(rf" ?[{_BREAKS}]\s*", "\n", text).strip()


def spelled(text: str, lowercase: bool, normalized: bool) -> list[str]:
    """The lines of a text as a vocabulary reads them: of `normalize`, or of the text as it is."""
    return (normalize(text, lowercase) if normalized else text.lower() if lowercase else text).split("\n")
