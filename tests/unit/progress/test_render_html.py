from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.events import CellEvent, Event, LogEvent, MetricEvent, NoticeEvent, RunEvent
from jupyter_mlops.progress.render_html import CHARTS, STYLE, Links, render, safe_path, safe_url
from jupyter_mlops.progress.state import SERIES_COUNT, ProgressState
from jupyter_mlops.spec import RunState

from .histories import (
    HOSTILE,
    at,
    cell,
    expectations,
    failed_run,
    half_a_run,
    histories,
    succeeded_run,
    texts,
)

# fmt: off
_VOID = {"br", "img", "hr", "input", "meta", "link"}
_TAGS = {
    "style", "div", "span", "b", "code", "pre", "a", "details", "summary", "svg", "path", "circle", "rect",
}
_ATTRIBUTES = {
    "class", "style", "role", "title", "tabindex", "dir", "href", "target", "rel", "viewbox",
    "preserveaspectratio", "d", "fill", "stroke", "stroke-width", "stroke-linejoin", "stroke-linecap",
    "vector-effect", "cx", "cy", "r", "x", "y", "width", "height", "aria-hidden", "aria-label", "aria-valuemin",
    "aria-valuemax", "aria-valuenow", "aria-valuetext",
}
# fmt: on


class Page(HTMLParser):
    """What a browser would make of a fragment; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of <{tag}> stands twice"
        self.seen.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def role(self, role: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.seen if attributes.get("role") == role]


def page(events: list[Event], links: Links | None = None, *, now: float = 10) -> Page:
    state = ProgressState("r1", clock=lambda: at(now))
    for event in events:
        state.apply(event)
    return Page(render(state, links or Links()))


def test_a_running_run_shows_its_cell_its_use_and_its_progress_to_everybody() -> None:
    shown = page(half_a_run())
    for text in (
        "Running",
        "1 of 3 cells",
        "Cell 2 of 3: train the model",
        "1.0 GiB of 8.0 GiB",
        "4 workers",
        "87 %",
    ):
        assert text in shown.text
    (bar,) = shown.role("progressbar")
    assert (bar["aria-valuenow"], bar["aria-valuemin"], bar["aria-valuemax"]) == ("33", "0", "100")
    assert bar["aria-valuetext"] == "Running, 1 of 3 cells"


def test_progress_of_unknown_length_claims_no_value() -> None:
    (bar,) = page(half_a_run()[:1]).role("progressbar")
    assert "aria-valuenow" not in bar


@pytest.mark.parametrize(("state", "word"), [
    (RunState.PENDING, "Waiting"), (RunState.RUNNING, "Running"), (RunState.SUCCEEDED, "Succeeded"),
    (RunState.FAILED, "Failed"), (RunState.CANCELLED, "Cancelled"),
])  # fmt: skip
def test_the_state_is_told_in_words_and_in_a_shape_of_its_own(state: RunState, word: str) -> None:
    shown = page([RunEvent(time=at(0), state=state)])
    assert word in shown.text
    others = [page([RunEvent(time=at(0), state=other)]) for other in RunState if other is not state]
    assert shown.seen[4:9] not in [other.seen[4:9] for other in others]


def test_a_failure_shows_cell_line_message_and_hint() -> None:
    shown = page(failed_run())
    for text in (
        "Cell 2 of 3: train the model",
        "model.fit(data)",
        "ValueError: the loss is nan",
        "Lower the learning",
    ):
        assert text in shown.text


def test_a_metric_is_drawn_with_its_last_value() -> None:
    shown = page(half_a_run())
    (chart,) = shown.role("img")
    assert chart["aria-label"] == "loss: last 0.25, lowest 0.25, highest 0.5"
    assert "0.25" in shown.text


def test_metrics_beyond_what_fits_are_counted() -> None:
    shown = page([MetricEvent(key=f"m{i}", value=1) for i in range(SERIES_COUNT + 5)])
    assert len(shown.role("img")) == CHARTS
    assert f"{SERIES_COUNT + 5 - CHARTS} more metrics are in MLflow." in shown.text


@pytest.mark.parametrize("values", [[1.0], [float("nan")], [1.0, 1.0], [1e308, -1e308], [1, float("inf"), 2, 3]])
def test_charts_hold_only_finite_coordinates(values: list[float]) -> None:
    shown = page([MetricEvent(key="m", value=value, step=2**70 * i) for i, value in enumerate(values)])
    drawn = " ".join(str(attributes.get("d")) for tag, attributes in shown.seen if tag == "path")
    assert not re.search("nan|inf|None|e[+]", drawn)


def test_links_lead_to_mlflow_and_to_the_executed_notebook() -> None:
    shown = page(succeeded_run(), Links(notebook="runs/my run #1?.ipynb"))
    assert [attributes["href"] for tag, attributes in shown.seen if tag == "a"] == [
        "https://mlflow/#/runs/1",
        "runs/my%20run%20%231%3F.ipynb",
    ]


def test_a_notebook_out_of_reach_of_the_server_is_told_by_its_directory() -> None:
    shown = page(succeeded_run(), Links(notebook="../../.local/x/executed.ipynb", files="/home/me/.local/x"))
    assert "/home/me/.local/x" in shown.text
    assert "Executed notebook" not in shown.text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://mlflow.example/#/experiments/1/runs/2", "https://mlflow.example/#/experiments/1/runs/2"),
        ("http://user:secret@mlflow:5000/x?y=1", "http://mlflow:5000/x?y=1"),
        ("HTTPS://mlflow/", "https://mlflow/"),
        ("javascript:alert(1)", None),
        ("java\nscript:alert(1)", None),
        ("data:text/html,x", None),
        ("file:///etc/passwd", None),
        ("//evil/x", None),
        ("http:///x", None),
        ("http://[bad", None),
        ("http://a:port/", None),
        ('http://a/"><script>', None),
        ("http://a/\u202ex", None),
        ("", None),
        (None, None),
    ],
)
def test_only_web_addresses_become_links_and_without_credentials(url: str | None, shown: str | None) -> None:
    assert safe_url(url) == shown


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("a/b.ipynb", "a/b.ipynb"),
        ("javascript:alert(1)", "javascript%3Aalert%281%29"),
        ("a\\b", "a%5Cb"),
        ("/etc/passwd", None),
        ("//evil", None),
        ("../up.ipynb", None),
        ("a/../../b", None),
        (".hidden/b", None),
        ("", None),
    ],
)
def test_only_paths_below_the_notebook_become_links(path: str, shown: str | None) -> None:
    assert safe_path(path) == shown


def test_every_colour_is_a_variable_of_the_theme() -> None:
    without = re.sub(r"var\(--[^()]*\)", "", STYLE)
    forced = without[without.index("@media (forced-colors") :]
    assert not re.search(r"#[0-9a-f]{3,8}\b|rgb|hsl", without)
    assert not re.search(r"color:(?!var|inherit)[a-z#]", without.replace(forced, ""))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text_wherever_it_comes_from(text: str) -> None:
    hostile: list[Event] = [
        RunEvent(time=at(0), state=RunState.RUNNING, phase=text, total_cells=2, mlflow_url=text),
        cell(1, "running", 1, title=text),
        MetricEvent(key=text, value=1),
        LogEvent(text=text + "\n"),
        NoticeEvent(message=text),
    ]
    running = page(hostile, Links(mlflow=text, notebook=text, files=text))
    ended = RunEvent(state=RunState.FAILED, message=text, hint=text, line=text, cell_index=1)
    failed = page([*hostile, ended], Links(mlflow=text, notebook=text, files=text))
    for shown in (running, failed):
        _assert_only_our_markup(shown)
    for piece in ("<script>", "<img src=x", "javascript:window", "␛[31m", "\\u202e", "[red]", "onmouseover"):
        if piece.replace("␛", "\x1b").replace("\\u202e", "\u202e") in text:
            assert failed.text.count(piece) >= 5


@given(histories, expectations, texts, st.builds(Links, texts, texts, texts))
def test_any_events_in_any_order_make_well_formed_html_of_our_tags_only(
    events: list[Event], expected: dict[str, float], run_id: str, links: Links
) -> None:
    state = ProgressState(run_id, expected=expected, clock=lambda: at(10))
    for event in events:
        state.apply(event)
    html = render(state, links)
    _assert_only_our_markup(Page(html))
    html.encode("utf-8")  # no lone surrogates: the browser's websocket would refuse them
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", html)


@given(st.text(min_size=1))
def test_text_of_a_cell_comes_back_whole_from_the_html(title: str) -> None:
    from jupyter_mlops.progress.state import printable
    from jupyter_mlops.progress.words import shorten

    shown = page([CellEvent(index=1, number=1, state="running", title=title)])
    assert shorten(printable(title), 120) in shown.text


def _assert_only_our_markup(shown: Page) -> None:
    for tag, attributes in shown.seen:
        assert tag in _TAGS
        assert set(attributes) <= _ATTRIBUTES
        href = attributes.get("href")
        if href is not None:
            assert href.startswith(("http://", "https://")) or not re.match(r"[^/?#]*:|//", href)
        style = attributes.get("style") or ""
        assert re.fullmatch(r"|width:[\d.]+%|color:var\(--mlops-tone\)|--mlops-tone:var\([^()]*\)", style)
