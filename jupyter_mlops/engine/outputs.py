"""Bounds what the executed notebook keeps, so that it stays openable; what is cut lies whole in a file beside it.

Knows the notebook format's outputs and nothing of kernels.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Any

from ..redact import Redactor
from .outcome import format_bytes

_TAIL = 64 * 1024
"""Characters of the end of a cut stream that the notebook still shows: errors stand at the end."""
_TRACEBACK_LIMIT = 64 * 1024
_COST = 160
"""What an output takes in the file beside its content."""
_MOST_IN_CELL, _MOST = 1000, 5000
"""Outputs of a cell and of all cells: a browser bears more bytes than it bears pieces."""
_SLACK = 64 * 1024
"""What the lines that stand for what was cut may take beyond a limit."""
_SHORT = 4096
_CARRIAGE_RETURN = re.compile(r"^.*\r(?=[^\n])", re.MULTILINE)
_EXTENSIONS = {
    "image/png": ".png", "image/jpeg": ".jpg", "image/gif": ".gif", "image/svg+xml": ".svg", "text/html": ".html",
    "application/pdf": ".pdf", "application/json": ".json", "text/latex": ".tex", "text/markdown": ".md",
}  # fmt: skip
_BINARY = ("image/png", "image/jpeg", "image/gif", "application/pdf")


class OutputKeeper:
    """Takes each output of a run and decides what the notebook keeps.

    Args:
        directory: For what does not fit; made when first needed.
        cell_limit: Bytes that one cell keeps.
        total_limit: Bytes that all cells keep together.
        redactor: Masks secrets before anything is kept or written.
    """

    def __init__(self, directory: Path, *, cell_limit: int, total_limit: int, redactor: Redactor) -> None:
        self._directory = directory
        self._cell_limit = cell_limit
        self._total_limit = total_limit
        self._redactor = redactor
        self._total = 0
        self._cell = 0
        self._cell_number = 0
        self._payloads = 0
        self._files_of: dict[str, dict[str, Path]] = {}
        self._cut: dict[str, _CutStream] = {}
        self._left_out = 0
        self._pieces = self._pieces_in_cell = 0

    def start_cell(self, number: int) -> None:
        """The code cell of this number (from 1) begins."""
        self._cell_number, self._cell, self._payloads = number, 0, 0
        self._cut = {}
        self._left_out = self._pieces_in_cell = 0

    def clear(self) -> None:
        """The cell cleared its outputs: what they took is free again, and their files may be written over."""
        self._total -= self._cell
        self._pieces -= self._pieces_in_cell
        self._cell = self._payloads = self._pieces_in_cell = 0

    def stream(self, outputs: list[Any], name: str, text: str) -> str:
        """Add text to a cell's outputs, merged with the stream before it.

        Returns:
            The text as others may see it, secrets masked.
        """
        text = self._redactor.text(text)
        cut = self._cut.get(name)
        if cut is not None:
            cut.add(text)
            return text
        continues = bool(outputs) and outputs[-1]["output_type"] == "stream" and outputs[-1]["name"] == name
        room = self._room() if continues or self._has_place() else 0
        if not continues and room:
            self._begin_piece()
            room = self._room()
        size = len(text.encode("utf-8", "replace"))
        if size <= room:
            _append_stream(outputs, name, text)
            self._take(size)
            return text
        head = text.encode("utf-8", "replace")[:room].decode("utf-8", "ignore")
        _append_stream(outputs, name, head)
        self._take(len(head.encode("utf-8", "replace")))
        path = self._directory / f"cell-{self._cell_number}-{name}.log"
        before = "".join(
            output["text"] for output in outputs if output["output_type"] == "stream" and output["name"] == name
        )
        self._cut[name] = cut = _CutStream(self._file(path), before)
        cut.add(text[len(head) :])
        return text

    @property
    def is_full(self) -> bool:
        """Whether the cell may keep no further display or result; `leave_out` keeps their texts."""
        over = self._cell > self._cell_limit + _SLACK or self._total > self._total_limit + _SLACK
        return over or not self._has_place()

    def display(self, output: Any, *, display_id: str | None = None) -> None:
        """A display or result as the notebook may keep it: large payloads become a line that names their file.

        Args:
            output: Changed.
            display_id: Of one that is shown again and again: its file is written over.
        """
        data = self._redactor.data(dict(output["data"]))
        if output.get("metadata"):
            output["metadata"] = type(output["metadata"])(self._redactor.data(output["metadata"]))
        sizes = {mime: _size(value) for mime, value in data.items()}
        self._begin_piece()
        room = self._room()
        if sum(sizes.values()) > room:
            notices = []
            for mime in sorted(sizes, key=sizes.__getitem__, reverse=True):
                if mime == "text/plain" and sizes[mime] < _SHORT:
                    continue
                notices.append(self._keep_apart(mime, data.pop(mime), sizes[mime], display_id))
            short = str(data.get("text/plain", ""))
            data["text/plain"] = "\n".join([*notices, *([short] if short else [])])
        output["data"] = type(output["data"])(data) if isinstance(output["data"], dict) else data
        self._take(sum(_size(value) for value in data.values()))

    def replaced(self, output: Any, *, in_this_cell: bool) -> None:
        """What an output took that another is now put in the place of."""
        self._take(-_COST - sum(_size(value) for value in output["data"].values()), cell=in_this_cell)
        self._pieces -= 1
        self._pieces_in_cell -= in_this_cell

    def widget(self, content: Any) -> bool:
        """An output that goes into a widget: whether it may be kept; if not, its text is left out."""
        size = _COST + _size(content)
        if size > self._room() or not self._has_place():
            self.leave_out(content)
            return False
        self._begin_piece()
        self._take(size - _COST)
        return True

    def mask(self, value: Any) -> Any:
        """JSON-like data with secrets masked."""
        return self._redactor.data(value)

    def leave_out(self, content: Any) -> None:
        """Keep the text of an output, given by its message, in a file alone."""
        data = content.get("data")
        text = self._redactor.text(str(content.get("text") or (data.get("text/plain", "") if data else "")))
        path = self._file(self._directory / f"cell-{self._cell_number}-more.log")
        with path.open("a" if self._left_out else "w", encoding="utf-8", errors="replace") as file:
            file.write(text if text.endswith("\n") else text + "\n")
        self._left_out += 1

    def error(self, output: Any) -> Any:
        """An error output with secrets masked and its traceback bounded."""
        output["evalue"] = _middle_cut(self._redactor.text(str(output.get("evalue", ""))), _TRACEBACK_LIMIT)
        frames = [self._redactor.text(str(part)) for part in output.get("traceback", [])]
        text = "\n".join(frames)
        output["traceback"] = frames if len(text) <= _TRACEBACK_LIMIT else [_middle_cut(text, _TRACEBACK_LIMIT)]
        self._take(min(len(text), _TRACEBACK_LIMIT))
        return output

    def end_cell(self, outputs: list[Any]) -> list[str]:
        """The cell ended: apply carriage returns, show the tails of cut streams.

        Returns:
            A sentence for each stream that was cut.
        """
        for output in outputs:
            if output["output_type"] == "stream":
                output["text"] = self._redactor.text(apply_carriage_returns(output["text"]))
        notices = []
        if self._left_out:
            path = f"{self._directory.name}/cell-{self._cell_number}-more.log"
            notices.append(
                f"Cell {self._cell_number}: {self._left_out:,} more outputs were left out; their texts are in {path}."
            )
            _append_stream(outputs, "stdout", f"\n[… {notices[0]}]\n")
        for name, cut in self._cut.items():
            path = f"{self._directory.name}/{cut.path.name}"
            notice = (
                f"Cell {self._cell_number}: {name} of {format_bytes(cut.size)} was cut; the whole of it is in {path}."
            )
            notices.append(notice)
            end = cut.tail()[-max(_SHORT, min(_TAIL, self._total_limit - self._total)) :]
            _append_stream(outputs, name, f"\n[… {notice} Its end: …]\n{end}")
            self._take(len(end))
            cut.close()
        self._cut = {}
        return notices

    def _room(self) -> int:
        return max(0, min(self._cell_limit - self._cell, self._total_limit - self._total))

    def _has_place(self) -> bool:
        return self._pieces_in_cell < _MOST_IN_CELL and self._pieces < _MOST

    def _begin_piece(self) -> None:
        self._pieces += 1
        self._pieces_in_cell += 1
        self._take(_COST)

    def _take(self, size: int, *, cell: bool = True) -> None:
        if cell:
            self._cell += size
        self._total += size

    def _file(self, path: Path) -> Path:
        self._directory.mkdir(exist_ok=True)
        return path

    def _keep_apart(self, mime: str, value: Any, size: int, display_id: str | None) -> str:
        shown = self._files_of.setdefault(display_id, {}) if display_id is not None else {}
        if mime not in shown:
            self._payloads += 1
            extension = _EXTENSIONS.get(mime, ".txt")
            name = f"cell-{self._cell_number}-output-{self._payloads}{extension}"
            shown[mime] = self._file(self._directory / name)
        path = shown[mime]
        path.write_bytes(_payload(mime, value))
        return f"[{mime} of {format_bytes(size)} is kept apart, in {self._directory.name}/{path.name}]"


class _CutStream:
    """A stream that no longer fits: the whole goes to a file, its end stays in memory."""

    def __init__(self, path: Path, before: str) -> None:
        self.path = path
        self.size = 0
        self._end = ""
        self._file = path.open("w", encoding="utf-8", errors="replace")
        self._write(before)

    def add(self, text: str) -> None:
        self._write(text)
        self._end = (self._end + text)[-_TAIL:]

    def _write(self, text: str) -> None:
        self._file.write(text)
        self.size += len(text.encode("utf-8", "replace"))

    def tail(self) -> str:
        return self._end

    def close(self) -> None:
        self._file.close()


def apply_carriage_returns(text: str) -> str:
    """The text as a terminal would leave it: progress bars that rewrite their line keep only its last form."""
    if "\x08" in text:
        text = _without_backspaces(text)
    return _CARRIAGE_RETURN.sub("", text) if "\r" in text else text


def _without_backspaces(text: str) -> str:
    # One pass over the pieces: a pass a backspace would take hours for a progress bar that ran all night. Lengths are
    # counted down, because cutting a long piece copies it.
    first, *rest = text.split("\x08")
    kept, lengths = [first], [len(first)]
    for piece in rest:
        while lengths and not lengths[-1]:
            kept.pop()
            lengths.pop()
        if lengths and kept[-1][lengths[-1] - 1] not in "\n\x08":
            lengths[-1] -= 1
        else:  # nothing to take back in this line
            kept.append("\x08")
            lengths.append(1)
        kept.append(piece)
        lengths.append(len(piece))
    return "".join(piece[:length] for piece, length in zip(kept, lengths, strict=True))


def _append_stream(outputs: list[Any], name: str, text: str) -> None:
    if outputs and outputs[-1]["output_type"] == "stream" and outputs[-1]["name"] == name:
        outputs[-1]["text"] += text
    elif text:
        from nbformat.v4 import new_output

        outputs.append(new_output("stream", name=name, text=text))


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, (list, tuple)):
        return sum(map(_size, value))
    if isinstance(value, dict):
        return sum(len(str(key)) + _size(item) for key, item in value.items())
    return 8


def _payload(mime: str, value: Any) -> bytes:
    if mime in _BINARY and isinstance(value, str):
        try:
            return base64.b64decode(value)
        except (ValueError, binascii.Error):
            return value.encode("utf-8", "replace")
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "".join(value).encode("utf-8", "replace")
    import json

    return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "replace")


def _middle_cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half} characters cut …]\n{text[-half:]}"
