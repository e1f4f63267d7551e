"""Reads, checks, strips and writes notebooks; says which kernel one needs and what to call a cell.

Everything that reads a notebook goes through `read_notebook`, so the rest of the code holds a valid one with
ids and tags. Knows nothing of parameters, runs or servers.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import json
import os
import re
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotebookError, nearest
from .naming import cell_digest, cell_title, shown_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nbformat import NotebookNode

__all__ = [
    "SIZE_LIMIT",
    "cell_digest",
    "cell_title",
    "check_notebook",
    "kernel_language",
    "notebook_language",
    "parse_notebook",
    "read_bytes",
    "read_notebook",
    "replace_file",
    "resolve_kernel",
    "strip_outputs",
    "write_notebook",
]

NBFORMAT = 4
_MINOR_WITH_IDS = 5
SIZE_LIMIT = 100 * 2**20
"""Bytes of the largest notebook that is read when the caller names no limit."""
_MARKER = re.compile(rb"^(<{7}|>{7}) ", re.MULTILINE)
_CELL_TRACES = ("papermill", "execution", "ExecuteTime", "collapsed", "scrolled")
_NOTEBOOK_TRACES = ("papermill", "widgets", "signature")


def read_notebook(path: Path, *, limit: int = SIZE_LIMIT) -> NotebookNode:
    """The notebook in a file: valid, of nbformat 4.5 at least, each cell with an id and a list of tags.

    Reading the same bytes gives the same notebook, ids included.

    Args:
        path: The file.
        limit: Bytes that it may have.

    Raises:
        NotebookError: it cannot be read, is not a notebook, or has no code.
    """
    raw = parse_notebook(read_bytes(path, limit=limit), path)
    return check_notebook(raw, path)


def read_bytes(path: Path, *, limit: int = SIZE_LIMIT) -> bytes:
    """The bytes of a notebook's file.

    Args:
        path: The file.
        limit: Bytes that it may have.

    Raises:
        NotebookError: there is no such file, it cannot be read, is empty or too large.
    """
    shown = shown_text(str(path))
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise NotebookError(f"{shown} is a directory, not a notebook.", hint=_notebooks_in(path))
        if not stat.S_ISREG(found.st_mode):
            raise NotebookError(f"{shown} is not a regular file.", hint="Give the path of an .ipynb file.")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotebookError(f"There is no file {shown}.", hint=_similar_notebook(path)) from error
    except PermissionError as error:
        raise NotebookError(
            f"You may not read {shown}.", hint=f"Give yourself the right to: chmod u+r {shown}"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NotebookError(f"{shown} cannot be read: {reason}.", hint="Check the path and its disk.") from error
    if len(data) > limit:
        raise NotebookError(
            f"{shown} has {max(found.st_size, len(data)) / 2**20:,.1f} MiB; at most {limit / 2**20:,.1f} MiB are read.",
            hint=f"Clear its outputs and save it: jupyter nbconvert --clear-output --inplace {shown}",
        )
    if not data:
        raise NotebookError(
            f"{shown} is empty: it has 0 bytes.",
            hint="It was probably cut off while it was saved: restore it from a checkpoint or from Git.",
        )
    return data


def parse_notebook(data: bytes, path: Path) -> dict[str, Any]:
    """The JSON object of a notebook of nbformat 4, otherwise as it is in the file.

    Args:
        data: The file's bytes.
        path: Where they are from, for messages.

    Raises:
        NotebookError: it is not JSON, not a notebook, or of another major version.
    """
    shown = shown_text(str(path))
    try:
        raw = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise NotebookError(
            f"{shown} is not a notebook: it is not text in UTF-8 (byte {error.start}).",
            hint="Give the path of an .ipynb file.",
        ) from error
    except RecursionError as error:
        raise NotebookError(
            f"{shown} is nested too deeply to be a notebook.", hint="Give the path of an .ipynb file."
        ) from error
    except ValueError as error:
        raise _not_json(data, shown, error) from error
    if not isinstance(raw, dict) or not _is_number(raw.get("nbformat")):
        raise NotebookError(
            f"{shown} is JSON but not a notebook: it has no nbformat number.",
            hint="Give the path of an .ipynb file.",
        )
    version = raw["nbformat"]
    if version < NBFORMAT:
        raise NotebookError(
            f"{shown} is of the old notebook format {version}; {NBFORMAT} is needed.",
            hint=f"Upgrade it: jupyter nbconvert --to notebook --nbformat {NBFORMAT} --inplace {shown}",
            code="notebook_too_old",
        )
    if version > NBFORMAT:
        raise NotebookError(
            f"{shown} is of the notebook format {version}, and {NBFORMAT} is the newest that is known here.",
            hint="Upgrade: pip install --upgrade nbformat jupyter-mlops",
            code="notebook_too_new",
        )
    return raw


def _not_json(data: bytes, shown: str, error: ValueError) -> NotebookError:
    if _MARKER.search(data):
        return NotebookError(
            f"{shown} holds the marks of an unresolved merge (<<<<<<<), so it is not JSON.",
            hint="Resolve it: git mergetool --tool nbdime, or take one side: git checkout --ours/--theirs",
        )
    where = (
        f" (line {error.lineno}, column {error.colno}: {error.msg})" if isinstance(error, json.JSONDecodeError) else ""
    )
    return NotebookError(
        f"{shown} is not JSON{where}, so it is not a notebook.",
        hint="If it was a notebook, restore it from a checkpoint or from Git.",
    )


def check_notebook(raw: dict[str, Any], path: Path) -> NotebookNode:
    """The notebook of a JSON object, validated and upgraded.

    Args:
        raw: As `parse_notebook` gives it; changed.
        path: Where it is from, for messages.

    Raises:
        NotebookError: it is not valid, or has no code.
    """
    from nbformat import ValidationError, validate
    from nbformat.v4 import to_notebook_json

    shown = shown_text(str(path))
    cells = raw.get("cells")
    if not _is_number(raw.get("nbformat_minor")):
        raise _invalid(shown, "", "it has no nbformat_minor number")
    if not isinstance(cells, list) or not all(isinstance(cell, dict) for cell in cells):
        raise _invalid(shown, "", "its cells are not a list of objects")
    # Minor versions only add; upgrading before validation also accepts the common 4.4 with ids in its cells.
    raw["nbformat_minor"] = max(raw["nbformat_minor"], _MINOR_WITH_IDS)
    _give_ids(cells)
    try:
        validate(raw)
    except ValidationError as error:
        what = str(getattr(error, "message", "") or error).splitlines()[0]
        raise _invalid(shown, _place(getattr(error, "relative_path", ())), what) from error
    except RecursionError as error:
        raise _invalid(shown, "", "it is nested too deeply") from error
    nb = to_notebook_json(raw)
    for cell in nb.cells:
        cell.metadata.setdefault("tags", [])
    if not any(cell.cell_type == "code" and cell.source.strip() for cell in nb.cells):
        raise NotebookError(
            f"{shown} has no code to run: none of its {len(nb.cells)} cells is a code cell with source.",
            hint="Write some code in it and save it (Ctrl+S).",
            code="notebook_empty",
        )
    return nb


def _give_ids(cells: Iterable[dict[str, Any]]) -> None:
    """Give cells without an id, and the later of two with the same, one made from what they hold.

    nbformat would give random ones, and with them each reading would be another notebook.
    """
    seen = {cell["id"] for cell in cells if isinstance(cell.get("id"), str)}
    kept: set[str] = set()
    for cell in cells:
        if "id" in cell and cell["id"] not in kept:
            if isinstance(cell["id"], str):
                kept.add(cell["id"])
            continue
        content = json.dumps([cell.get("cell_type"), cell.get("source")], sort_keys=True)
        copies = 0
        while (cell_id := hashlib.sha256(f"{copies} {content}".encode()).hexdigest()[:12]) in seen:
            copies += 1
        seen.add(cell_id)
        kept.add(cell_id)
        cell["id"] = cell_id


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _place(steps: Iterable[str | int]) -> str:
    """`cells[2].outputs[0].name` as a person counts: cell 3, output 1, name."""
    words: list[str] = []
    for step in steps:
        if isinstance(step, int) and words:
            words[-1] = f"{words[-1].removesuffix('s')} {step + 1}"
        else:
            words.append(str(step))
    return ", ".join(words)


def _invalid(shown: str, where: str, what: str) -> NotebookError:
    place = f" at {shown_text(where)}" if where else ""
    return NotebookError(
        f"{shown} is not a valid notebook{place}: {shown_text(what)}.",
        hint="Open it in JupyterLab and save it again, or restore it from Git.",
    )


def _notebooks_in(directory: Path) -> str:
    found = _names(directory)
    return f"Name one of its notebooks: {', '.join(found[:10])}" if found else "It holds no notebook (.ipynb)."


def _similar_notebook(path: Path) -> str:
    names = _names(path.parent)
    if not names:
        return "Check the path; it is looked up from the current directory."
    return nearest(path.name, names[:50], noun="notebook")


def _names(directory: Path) -> list[str]:
    with suppress(OSError, ValueError):
        return sorted(shown_text(entry.name) for entry in directory.glob("*.ipynb"))
    return []


def strip_outputs(nb: NotebookNode) -> NotebookNode:
    """A copy without what executing wrote: outputs, counts, widget state, timings, papermill's notes.

    Source, tags, attachments and the kernel's name stay. Doing it twice changes nothing more.
    """
    stripped = copy.deepcopy(nb)
    for name in _NOTEBOOK_TRACES:
        stripped.metadata.pop(name, None)
    for cell in stripped.cells:
        for name in _CELL_TRACES:
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            cell["outputs"] = []
            cell["execution_count"] = None
    return stripped


def write_notebook(nb: NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all; the mode of an existing file stays.

    Raises:
        NotebookError: it could not be written; an existing file is untouched.
    """
    import nbformat

    # A lone surrogate (half an emoji) is not UTF-8; as the escape \\udXXX it is what JSON has for it.
    replace_file(path, (nbformat.writes(nb) + "\n").encode("utf-8", "backslashreplace"))


def replace_file(path: Path, data: bytes) -> None:
    """Put bytes in the place of a file, so that a reader sees the old or the new ones; a link stays a link.

    Raises:
        NotebookError: it could not be written; an existing file is untouched.
    """
    target = Path(os.path.realpath(path))
    temporary = target.parent / f".mlops-{secrets.token_hex(8)}.tmp"
    made = False
    try:
        old = target.stat() if target.exists() else None
        mode = stat.S_IMODE(old.st_mode) if old else None
        # A new file gets what the umask says; one that is replaced is never more open than it was.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        descriptor = os.open(temporary, flags, 0o666 if mode is None else 0o600)
        made = True
        with os.fdopen(descriptor, "wb") as file:
            if old is not None and mode is not None:
                # The file stays its owner's when root, or someone of a group that shares a directory, writes it.
                with suppress(OSError):
                    os.chown(temporary, old.st_uid, old.st_gid)
                temporary.chmod(mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        made = False
        _sync_directory(target.parent)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise NotebookError(
            f"{shown_text(str(path))} cannot be written: {error.strerror or error}.",
            hint="Free some space." if full else "Check that the directory is there and that you may write to it.",
            code="disk_full" if full else "notebook_write",
        ) from error
    finally:
        if made:
            with suppress(OSError):
                temporary.unlink()


def _sync_directory(directory: Path) -> None:
    # Some network file systems cannot sync a directory; the file itself is safe by then.
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def notebook_language(nb: NotebookNode) -> str:
    """The language of the code cells as its kernel names it ("python", "R"); python when nothing says."""
    info = nb.metadata.get("language_info", {}).get("name")
    language = str(info or nb.metadata.get("kernelspec", {}).get("language") or "python")
    return "python" if language.lower() in ("python", "ipython") else language


def kernel_language(name: str) -> str:
    """The language of an installed kernel, by its own word; empty when it is not installed or does not say."""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        language = str(KernelSpecManager().get_kernel_spec(name).language or "")
    except (NoSuchKernel, OSError, ValueError, TypeError):
        return ""
    return "python" if language.lower() in ("python", "ipython") else language


def kernel_interpreter(name: str) -> str | None:
    """The Python that an installed kernel runs in; None: that of this process, or the kernel speaks another language.

    Args:
        name: From `resolve_kernel`.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    spec = KernelSpecManager().get_kernel_spec(name)
    program = (spec.argv or [""])[0]
    # A bare `python` is put in place by jupyter_client: it becomes the interpreter of this process.
    return program if spec.language == "python" and Path(program).is_absolute() else None


def resolve_kernel(nb: NotebookNode, override: str | None) -> str:
    """The name of the kernel to run a notebook with, checked to be installed here.

    Args:
        nb: The notebook.
        override: The kernel to use instead of the notebook's own, or None.

    Raises:
        NotebookError: with code `kernel_missing`, it is not installed, or its program is gone.
    """
    from jupyter_client.kernelspec import KernelSpecManager

    manager = KernelSpecManager()
    installed = manager.find_kernel_specs()
    named = override or nb.metadata.get("kernelspec", {}).get("name")
    is_python = notebook_language(nb) == "python"
    if not named and not is_python:
        raise _kernel_missing(
            f"The notebook names no kernel for its language, {shown_text(notebook_language(nb))}.", installed,
            "Name one with --kernel.",
        )  # fmt: skip
    name = str(named or "python3").lower()
    if name not in installed:
        shown = shown_text(str(named or "python3"))
        safe = shown if re.fullmatch(r"[\w.-]+", shown, re.ASCII) else "NAME"
        # A kernel of that name may stand for an environment with other packages: python3 is offered, never
        # taken.
        instead = (
            " or run it with --kernel python3" if is_python and name != "python3" and "python3" in installed else ""
        )
        install = f"Install it: python -m ipykernel install --user --name {safe}" if is_python else "Install it"
        raise _kernel_missing(
            f"The kernel '{shown}' is not installed here.", installed,
            f"{install}{instead or ' or name another with --kernel'}.",
        )  # fmt: skip
    try:
        program = (manager.get_kernel_spec(name).argv or [""])[0]
    except Exception as error:
        raise _kernel_missing(
            f"The kernel '{name}' has a broken kernel.json: {shown_text(str(error))}.", installed,
            f"Install it again, or remove it: jupyter kernelspec remove {name}",
        ) from error  # fmt: skip
    if Path(program).is_absolute() and not Path(program).exists():
        raise _kernel_missing(
            f"The kernel '{name}' starts {shown_text(program)}, which is gone.", installed,
            "Make its environment again, or name another kernel with --kernel.",
        )  # fmt: skip
    return name


def _kernel_missing(message: str, installed: Iterable[str], hint: str) -> NotebookError:
    names = ", ".join(sorted(installed)) or "none"
    return NotebookError(message, hint=f"Installed are: {names}. {hint}", code="kernel_missing")
