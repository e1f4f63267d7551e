"""What to call things of a notebook in front of people: titles of cells, paths and messages made harmless.

Pure functions over text, which is hostile here. Knows no notebook.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

_TITLE_LENGTH = 80
_SHOWN_LENGTH = 200
_LOOKED_AT = 100_000
"""Characters of a cell that are searched for a title."""


def cell_title(source: str) -> str:
    """The first telling line of a cell, for people: one line of at most 80 characters.

    A comment without its `#` tells most; magics, imports and decorators only count when there is nothing
    else.
    """
    spare = ""
    for line in source[:_LOOKED_AT].splitlines():
        text = line.strip()
        if text.startswith("#"):
            text = re.sub(r"^[#!\s]*(%%)?\s*", "", text)
            telling = any(character.isalnum() for character in text) and not line.startswith("#!")
        else:
            telling = not re.match(r"""[%!@?]|(import|from)\s|['"]{3}$|[\W_]*$""", text)
        text = _title(text)
        if text and telling:
            return text
        if text and not spare and any(character.isalnum() for character in text):
            spare = text
    return spare


def _title(text: str) -> str:
    text = re.sub(r"\s+", " ", "".join(_visible(character) for character in text[:2000])).strip()
    return text if len(text) <= _TITLE_LENGTH else text[: _TITLE_LENGTH - 1].rstrip() + "…"


def _visible(character: str) -> str:
    if character.isspace():
        return " "
    # Control, format (bidi overrides, zero width), surrogate, unassigned.
    return "" if unicodedata.category(character).startswith("C") else character


def shown_text(text: str) -> str:
    """A path or message of anyone as it can be shown: on one line, cut, and nothing invisible in it."""
    clean = "".join(_visible(character) for character in text[: 10 * _SHOWN_LENGTH])
    return clean if len(clean) <= _SHOWN_LENGTH else clean[: _SHOWN_LENGTH - 1] + "…"


def cell_digest(source: str) -> str:
    """A short digest of a cell's source: 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]
