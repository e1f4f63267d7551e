"""The executed notebook as one HTML file for anyone to open: nothing in it runs, nothing is fetched for it.

What a notebook shows was written by whoever wrote the notebook and its data, and MLflow's page opens the file
in the browser of whoever looks. So it is rendered by nbconvert without any script, from a copy of the
notebook that keeps only known fields of known types; HTML in it passes an allow-list; and a content security
policy stands over it all.

What is lost, on purpose: scripts and widgets (their text is shown), JavaScript outputs, frames and forms,
style sheets of outputs, images from elsewhere, and the typesetting of formulas (their LaTeX is shown), which
needs MathJax.
"""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import tempfile
import threading
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT_LIMIT = 1_000_000
"""Characters of one text output; a browser gets slow beyond."""
HTML_LIMIT = 500_000
IMAGE_LIMIT = 16 * 2**20
TOTAL_LIMIT = 48 * 2**20

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/svg+xml")
_TEXTS = ("text/html", "text/markdown", "text/latex", "text/plain")
_MEDIA = {"image/png", "image/jpeg", "image/svg+xml", *_TEXTS}
"""What nbconvert's template has a place for."""

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'"
)
_TEMPLATE = (
    """\
{%- extends 'lab/index.html.j2' -%}
{%- block html_head -%}
<meta http-equiv="Content-Security-Policy" content=\""""
    + _POLICY
    + """\">
<meta name="referrer" content="no-referrer">
{{ super() }}
{%- endblock -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block data_javascript -%}{%- endblock -%}
{%- block data_widget_view -%}{%- endblock -%}
{%- block data_mermaid -%}{%- endblock -%}
"""
)

_TAGS = frozenset(
    [
        "a",
        "abbr",
        "b",
        "blockquote",
        "br",
        "caption",
        "cite",
        "code",
        "col",
        "colgroup",
        "dd",
        "del",
        "details",
        "dfn",
        "div",
        "dl",
        "dt",
        "em",
        "figcaption",
        "figure",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "hr",
        "i",
        "img",
        "ins",
        "kbd",
        "li",
        "mark",
        "ol",
        "p",
        "pre",
        "q",
        "s",
        "samp",
        "section",
        "small",
        "span",
        "strong",
        "style",
        "sub",
        "summary",
        "sup",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "tt",
        "u",
        "ul",
        "var",
    ]
)
_DROPPED = frozenset({"style"})
"""Let through the allow-list only to be dropped with its text, which would otherwise be shown as such."""
_ATTRIBUTES = frozenset(
    [
        "class",
        "id",
        "title",
        "align",
        "alt",
        "border",
        "colspan",
        "rowspan",
        "headers",
        "scope",
        "start",
        "style",
        "width",
        "height",
        "open",
        "dir",
        "lang",
    ]
)
_LINK = re.compile(r"(?:https?://|mailto:|#)", re.IGNORECASE)
_DATA_IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[a-z0-9+/=\s]*\Z", re.IGNORECASE)
_SCRIPT = re.compile(r"<(script|noscript|template|iframe|object)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_ODD_STYLE = re.compile(r"[\\@]|/\*|expression|url", re.IGNORECASE)
_PYGMENTS_NAME = re.compile(r"[\w+#.\-]{1,40}\Z")


_rendering = threading.Lock()
"""Held while the one exporter renders."""


def warm_up() -> None:
    """Load what the first page needs, by rendering one of nothing: that is most of the time of a page. Never raises.

    For a thread beside the cells, which leave a processor idle more often than not.
    """
    from nbformat import v4

    with suppress(Exception):
        output = v4.new_output("stream", name="stdout", text=" ")
        cells = [v4.new_code_cell("0", outputs=[output]), v4.new_markdown_cell("*")]
        nothing = v4.new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
        _render(_plain_notebook(nothing, ""), "")


def export_html(notebook: Path, html: Path, *, title: str) -> None:
    """Write the notebook as HTML; the file is there whole or not at all.

    Args:
        notebook: The executed notebook.
        html: The file to write.
        title: What the browser shows as the page's name.

    Raises:
        NotebookError: it cannot be read, or not be rendered.
        OSError: the file cannot be written.
    """
    from ..errors import NotebookError

    try:
        import nbformat

        document = nbformat.read(notebook, as_version=4)
        text = _render(_plain_notebook(document, title), title)
    except OSError:
        raise
    except Exception as error:
        raise NotebookError(
            f"The notebook {notebook.name} cannot be shown as HTML: {type(error).__name__}.",
            hint="Open the notebook itself.",
        ) from error
    _write(html, text)


def clean_html(source: object) -> str:
    """HTML of a notebook with only what shows something; nothing in it runs or comes from elsewhere.

    Args:
        source: HTML of any quality.
    """
    text = source.decode(errors="replace") if isinstance(source, bytes) else str(source)
    cleaner = _cleaner()
    return str(cleaner.clean(_SCRIPT.sub("", text)))


@lru_cache(maxsize=1)
def _cleaner() -> Any:
    import bleach  # type: ignore[import-untyped]
    from bleach.css_sanitizer import CSSSanitizer  # type: ignore[import-untyped]
    from bleach.html5lib_shim import Filter  # type: ignore[import-untyped]

    class _DropStyles(Filter):  # type: ignore[misc] # bleach has no types
        def __iter__(self) -> Iterator[Any]:
            inside = 0
            for token in super().__iter__():
                if token.get("name") in _DROPPED and token["type"] == "StartTag":
                    inside += 1
                elif token.get("name") in _DROPPED and token["type"] == "EndTag":
                    inside = max(0, inside - 1)
                elif not inside and token.get("name") not in _DROPPED:
                    yield token

    return bleach.Cleaner(
        tags=_TAGS,
        attributes=_may_stay,
        protocols={"http", "https", "mailto", "data"},
        strip=True,
        strip_comments=True,
        filters=[_DropStyles],
        css_sanitizer=CSSSanitizer(),
    )


def _may_stay(tag: str, name: str, value: str) -> bool:
    if name == "href":
        return tag == "a" and _LINK.match(value.strip()) is not None
    if name == "src":
        return tag == "img" and _DATA_IMAGE.match(value.strip()) is not None
    if name == "style":
        return _ODD_STYLE.search(value) is None
    return name in _ATTRIBUTES


def _render(document: Any, title: str) -> str:
    import warnings

    with _rendering, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text, _ = _exporter().from_notebook_node(document, resources={"metadata": {"name": title, "path": ""}})
    return str(text)


@lru_cache(maxsize=1)
def _exporter() -> Any:
    from jinja2 import DictLoader
    from nbconvert.exporters import HTMLExporter
    from traitlets.config import Config

    config = Config()
    config.NbConvertBase.display_data_priority = [
        "image/svg+xml", "image/png", "image/jpeg", "text/html", "text/markdown", "text/latex", "text/plain",
    ]  # fmt: skip
    silent = logging.getLogger(f"{__name__}.nbconvert")  # it would warn of each image without a description
    silent.setLevel(logging.ERROR)
    exporter = HTMLExporter(
        config=config,
        log=silent,
        sanitize_html=True,
        embed_images=False,  # it would read any file that the notebook names
        exclude_anchor_links=True,
        extra_loaders=[DictLoader({"mlops.html.j2": _TEMPLATE})],
        template_file="mlops.html.j2",
        # The template has no place for these; should a later one have, they still lead nowhere.
        require_js_url="",
        mathjax_url="",
        mermaid_js_url="",
        mermaid_layout_elk_js_url="",
        jquery_url="",
        jupyter_widgets_base_url="",
    )
    # nbconvert's own list lacks paragraphs, headings and table heads: it would show their tags.
    exporter.register_filter("clean_html", clean_html)
    return exporter


def _plain_notebook(document: Any, title: str) -> Any:
    """A new notebook with the fields that are shown, each of the type that it should have, none too large."""
    from nbformat import v4

    info = document.get("metadata", {}).get("language_info", {})
    lexer = info.get("pygments_lexer") or info.get("name") if isinstance(info, dict) else None
    metadata: dict[str, Any] = {"title": " ".join(title.split()) or "Notebook"}
    if isinstance(lexer, str) and _PYGMENTS_NAME.match(lexer):
        metadata["language_info"] = {"name": lexer, "pygments_lexer": lexer}
    room = [TOTAL_LIMIT]
    cells = []
    for cell in document.get("cells", []):
        source = _cut(_text(cell.get("source", "")), TEXT_LIMIT, room)
        if cell.get("cell_type") == "code":
            outputs = [
                plain for output in cell.get("outputs", []) if (plain := _plain_output(output, room)) is not None
            ]
            count = _count(cell.get("execution_count"))
            cells.append(v4.new_code_cell(source, execution_count=count, outputs=outputs))
        elif cell.get("cell_type") == "markdown":
            made = v4.new_markdown_cell(source)
            attachments = _plain_attachments(cell.get("attachments"), room)
            if attachments:
                made["attachments"] = attachments
            cells.append(made)
        # A raw cell is meant for another format than this one.
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number + 1}"
    return v4.new_notebook(metadata=metadata, cells=cells)


def _plain_output(output: Any, room: list[int]) -> Any:
    from nbformat import v4

    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return v4.new_output("stream", name=name, text=_cut(_text(output.get("text", "")), TEXT_LIMIT, room))
    if kind == "error":
        traceback = _cut("\n".join(_text(line) for line in output.get("traceback", [])), TEXT_LIMIT, room)
        return v4.new_output(
            "error",
            ename=_text(output.get("ename", "")),
            evalue=_cut(_text(output.get("evalue", "")), 10_000, room),
            traceback=traceback.split("\n"),
        )
    if kind not in ("display_data", "execute_result"):
        return None
    data, metadata = _plain_data(output.get("data", {}), output.get("metadata", {}), room)
    if not data:
        return None
    if kind == "execute_result":
        count = _count(output.get("execution_count"))
        return v4.new_output("execute_result", data=data, metadata=metadata, execution_count=count)
    return v4.new_output("display_data", data=data, metadata=metadata)


def _plain_data(data: Any, metadata: Any, room: list[int]) -> tuple[dict[str, str], dict[str, Any]]:
    found: dict[str, str] = {}
    sizes: dict[str, Any] = {}
    for media, value in data.items() if isinstance(data, dict) else ():
        if media not in _MEDIA:
            continue
        if media in _IMAGES:
            image = _image(media, _text(value), room)
            if image:
                found[media] = image
                sizes[media] = _plain_size(metadata.get(media) if isinstance(metadata, dict) else None)
        elif media == "text/html" and len(_text(value)) > HTML_LIMIT:
            continue  # half of it is no HTML; its plain text stands in
        else:
            found[media] = _cut(_text(value), TEXT_LIMIT, room)
    if not found and isinstance(data, dict) and data:
        found["text/plain"] = "(an output that is too large for this page, or of a kind that it does not show)"
    return found, sizes


def _image(media: str, text: str, room: list[int]) -> str:
    if len(text) > min(IMAGE_LIMIT, room[0]):
        return ""
    if media != "image/svg+xml":
        text = "".join(text.split())
        try:
            base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            return ""
    room[0] -= len(text)
    return text


def _plain_size(metadata: Any) -> dict[str, int]:
    if not isinstance(metadata, dict):
        return {}
    return {
        key: int(value)
        for key, value in metadata.items()
        if key in ("width", "height") and isinstance(value, (int, float)) and 0 < value < 100_000
    }


def _plain_attachments(attachments: Any, room: list[int]) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for name, bundle in attachments.items() if isinstance(attachments, dict) else ():
        for media, value in bundle.items() if isinstance(bundle, dict) else ():
            if media in _IMAGES and media != "image/svg+xml" and (image := _image(media, _text(value), room)):
                found.setdefault(str(name), {})[media] = image
    return found


def _cut(text: str, limit: int, room: list[int]) -> str:
    limit = max(0, min(limit, room[0]))
    room[0] -= min(len(text), limit)
    if len(text) <= limit:
        return text
    return text[:limit] + "\n… (cut here; the executed notebook and its outputs have the rest)"


def _text(value: Any) -> str:
    if isinstance(value, list):
        value = "".join(str(part) for part in value)
    # A lone surrogate cannot be written as UTF-8.
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _write(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
