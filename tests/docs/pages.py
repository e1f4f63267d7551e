"""The Markdown pages as the tests read them: their code blocks, links and headings."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md"),
     ROOT / "kernels" / "README.md", ROOT / "labextension" / "README.md"]
)  # fmt: skip

_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(<?(?P<target>[^)>\s]+)>?(?:\s+\"[^\"]*\")?\)")
_IMAGE = re.compile(r"<(?:img|source|a)\b[^>]*?\b(?:src|srcset|href)=\"(?P<target>[^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block: its info string's first word, the others, its text, and where it begins."""

    language: str
    words: tuple[str, ...]
    text: str
    place: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for found in _FENCE.finditer(text):
        language, *words = found["info"].split() or [""]
        indent = len(found["indent"])
        body = "".join(line[indent:] for line in found["body"].splitlines(keepends=True))
        line = text.count("\n", 0, found.start()) + 1
        yield Block(language, tuple(words), body, f"{page.relative_to(ROOT)}:{line}")


def all_blocks(*languages: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language in languages]


def prose(page: Path) -> str:
    """The page without its fenced blocks and code spans."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))


def links(page: Path) -> list[str]:
    text = prose(page)
    return [found["target"] for pattern in (_LINK, _IMAGE) for found in pattern.finditer(text)]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes from the page's headings."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    found = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        kept = "".join(char for char in plain if char in " -_" or unicodedata.category(char)[0] in "LN")
        found.add(kept.replace(" ", "-"))
    return found


def command_lines(block: Block) -> Iterator[str]:
    """The lines of a block that call our commands, joined where they go on, without prompts."""
    for line in block.text.replace("\\\n", " ").splitlines():
        bare = re.sub(r"^\s*(?:\$ )?", "", line)
        found = re.match(r"(?:(?:\.venv/bin/)?jupyter mlops|%%?mlops)\b(.*)", bare)
        if found:
            yield re.split(r"\s(?:\||>|&&|#)", found[1])[0].strip()
