"""How a process that is ours alone (the command line, a worker) starts quickly.

Standard library only, because it comes before every other import. Never called in a person's kernel or in a server:
what it changes holds for the whole process.
"""

from __future__ import annotations

import gc
import sys

_UNNEEDED = ("rfc3987_syntax", "isoduration")
"""jsonschema imports these if it can, for checks of formats that no notebook has: international resource identifiers
(its grammar is built at import, 1 s and more) and ISO durations."""

_YOUNG = 100_000
"""Objects between two looks of the garbage collector, for Python's 700 (2,000 from 3.13 on): hundreds of looks while
modules are imported find next to nothing, and take a tenth of the time."""


def start_quickly() -> None:
    """Leave out imports that nothing here needs, and collect garbage less often."""
    for name in _UNNEEDED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    gc.set_threshold(_YOUNG, 20, 20)
