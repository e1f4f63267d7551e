"""Values that people and programs set, as hostile as they come, and what it means that two are the same."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import strategies as st

from jupyter_mlops.notebook.annotation import is_variable

HOSTILE_TEXTS = (
    "",
    " ",
    "a'b",
    'a"b',
    "'''",
    '"""',
    '"""\nimport os; os.system(\'id\')\n"""',
    "'; import os; os.system('id') #",
    "\\",
    "\\'",
    '\\"',
    "\\N{BULLET}\\x41\\u0041",
    "a\nb",
    "a\r\nb\rc",
    "\n%load_ext evil\n!id\n",
    "{x}{{x}}{% x %}",
    "$(id) `id` ${HOME} $HOME",
    "%s %(x)s 100%",
    "nul\0inside",
    "\x00\x1b[31m\x7f\x85",
    "\u2028\u2029\u202e\ufeff",
    "naïve 😀 \U0010ffff",
    "\N{COMBINING ACUTE ACCENT}",
    "<script>alert(1)</script>",
    "# type: int",
    "none",
    "true",
    "1e3",
    "nan",
    "~",
    "- a: b",
    "--option",
    "=",
)

names = st.from_regex(r"[a-z_][a-z0-9_]{0,9}", fullmatch=True).filter(is_variable)
texts = st.sampled_from(HOSTILE_TEXTS) | st.text()
"""Without lone surrogates, which are refused."""
whole_numbers = st.integers() | st.sampled_from([2**53 + 1, -(2**63) - 1, 10**3999, -(10**4000) + 1])


def nested(scalars: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Such values, and lists and mappings of them."""
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
        max_leaves=12,
    )


finite_values = nested(
    st.none() | st.booleans() | whole_numbers | st.floats(allow_nan=False, allow_infinity=False) | texts
)
"""What Python reads back from `repr`."""
values = nested(st.none() | st.booleans() | whole_numbers | st.floats() | texts)


def short(value: object) -> str:
    """A value as a test's name can hold it."""
    return ascii(value)[:40]


def same(left: Any, right: Any) -> bool:
    """Whether two values are the same to the type, the sign of zero, nan, and the order of a mapping."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        both_nan = math.isnan(left) and math.isnan(right)
        return both_nan or (left == right and math.copysign(1, left) == math.copysign(1, right))
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return bool(left == right)
