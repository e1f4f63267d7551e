"""How two executed notebooks differ, as text: nbdime's diff, of what is worth comparing.

What differs between any two runs is left out (times, counts, addresses of objects, state of widgets), and pictures
are compared by digest. May not know runs; what stands in the notebooks is anyone's and is shown, never obeyed.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .notebook.document import read_notebook, strip_outputs
from .progress.state import format_bytes, printable

if TYPE_CHECKING:
    from nbformat import NotebookNode

_WIDGET = "application/vnd.jupyter.widget-view+json"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,16}\b")
_HEAD, _TAIL = 10_000, 5_000
"""Characters of a text output that are compared line by line; the rest by digest. Comparing takes the square of it."""


def diff_notebooks(path_a: Path, path_b: Path, *, outputs: bool, color: bool) -> str:
    """How the second notebook differs from the first.

    Args:
        path_a: An executed notebook.
        path_b: Another one.
        outputs: Compare what the cells displayed as well.
        color: With a terminal's colour sequences; without them nothing in the text is one.

    Returns:
        Lines for a person, or an empty string when nothing differs.

    Raises:
        NotebookError: one of them cannot be read.
    """
    from nbdime import diff
    from nbdime.prettyprint import PrettyPrintConfig, pretty_print_diff

    first, second = (_comparable(read_notebook(path), outputs=outputs) for path in (path_a, path_b))
    shown = SimpleNamespace(sources=True, outputs=True, attachments=True, metadata=True, id=False, details=False)
    out = StringIO()
    # In this process: neither the git nor the diff of whoever calls, nor their configuration, has a say.
    config = PrettyPrintConfig(out=out, include=shown, use_git=False, use_diff=False, use_color=color)
    pretty_print_diff(first, diff(first, second, path="", config=_rules()), "", config)
    text = out.getvalue()
    if not text.strip():
        return ""
    return f"--- {printable(str(path_a))}\n+++ {printable(str(path_b))}\n{text.rstrip()}\n"


def _rules() -> Any:
    """The rules of nbdime for notebooks, in a copy that nobody else changes."""
    from nbdime.diffing.notebooks import compare_output_approximate, compare_output_strict, notebook_config

    def is_like(one: Any, other: Any) -> bool:
        # nbdime takes what two cells printed for unlike as soon as it is long, and shows both as a whole.
        if one["output_type"] == other["output_type"] == "stream":
            return bool(one["name"] == other["name"])
        return bool(compare_output_approximate(one, other))

    rules = copy.copy(notebook_config)
    rules.predicates["/cells/*/outputs"] = [is_like, compare_output_strict]
    return rules


def _comparable(nb: NotebookNode, *, outputs: bool) -> NotebookNode:
    kept = [list(cell.get("outputs", [])) for cell in nb.cells]
    nb = strip_outputs(nb)
    nb.metadata.pop("language_info", None)  # as the kernel told it; the kernel's name stands in the kernelspec
    for cell, before in zip(nb.cells, kept, strict=True):
        if not cell.metadata.get("tags"):
            cell.metadata.pop("tags", None)
        if cell.cell_type == "code" and outputs:
            cell["outputs"] = [_output(output) for output in before if not _is_widget(output)]
    shown: NotebookNode = _shown(nb)
    return shown


def _is_widget(output: Any) -> bool:
    return _WIDGET in output.get("data", {})


def _output(output: Any) -> Any:
    """An output without what differs each time."""
    if "execution_count" in output:
        output["execution_count"] = None
    if "text" in output:
        output["text"] = _text(output["text"])
    if "traceback" in output:
        output["evalue"] = _text(output.get("evalue", ""))
        output["traceback"] = [_text(part) for part in output["traceback"]]
    if "data" in output:
        for mime, value in output["data"].items():
            is_text = isinstance(value, str) and mime.startswith("text/")
            output["data"][mime] = _text(value) if is_text else _digest(mime, value)
    return output


def _text(text: str) -> str:
    text = _ADDRESS.sub("0x…", _COLOUR.sub("", text))
    if len(text) <= _HEAD + _TAIL:
        return text
    middle = text[_HEAD:-_TAIL]
    cut = f"[… {len(middle)} characters, sha256 {_sha256(middle.encode('utf-8', 'surrogatepass'))} …]"
    return f"{text[:_HEAD]}\n{cut}\n{text[-_TAIL:]}"


def _digest(mime: str, value: Any) -> str:
    """`<image/png of 12.3 KiB, sha256 0a1b2c3d4e5f>`."""
    data = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    # Base64 is broken into lines, or is not, by whoever wrote the notebook.
    encoded = "".join(data.split()).encode("utf-8", "surrogatepass")
    return f"<{mime} of {format_bytes(len(encoded))}, sha256 {_sha256(encoded)}>"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _shown(value: Any) -> Any:
    """The same with every text in it made printable, keys included."""
    if isinstance(value, str):
        return printable(value, keep_lines=True)
    if isinstance(value, dict):
        return type(value)({printable(str(key)): _shown(item) for key, item in value.items()})
    if isinstance(value, list):
        return [_shown(item) for item in value]
    return value
