"""JSON as parameters take it: no name twice, no number that Python would change. NaN and Infinity are numbers.

Python's reader keeps the last of two equal names and makes infinity of `1e400`: values that nobody wrote. Knows no
parameter and no file.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from .annotation import MOST_DIGITS
from .naming import shown_text


class UnfitError(Exception):
    """It can be read, but a part of it would become another value; says which."""


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is no JSON (`json.JSONDecodeError` tells where).
        UnfitError: it is, but would be read as something else.
        RecursionError: it is nested too deeply.
    """
    # Told at the end: `1e400 is much` begins like JSON and is none.
    unfit: list[str] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            unfit.append(twice(Counter(name for name, _ in pairs).most_common(1)[0][0]))
        return found

    def whole(digits: str) -> int:
        if len(digits.lstrip("-")) > MOST_DIGITS:
            unfit.append(TOO_MANY_DIGITS)
            return 0
        return int(digits)

    def fraction(digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            unfit.append(too_large(digits))
        return number

    value = json.loads(text, object_pairs_hook=once, parse_int=whole, parse_float=fraction)
    if unfit:
        raise UnfitError(unfit[0])
    return value


TOO_MANY_DIGITS = f"a number has more than {MOST_DIGITS:,} digits"


def twice(name: str) -> str:
    """What is wrong with a mapping that has a name two times."""
    return f"'{shown_text(name)}' is there twice"


def too_large(digits: str) -> str:
    """What is wrong with a number that would become infinite."""
    return f"{shown_text(digits)} is too large for a float"
