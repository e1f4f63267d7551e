"""Floods of output: what the notebook keeps, what lies beside it, and how much memory it costs the engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from jupyter_mlops.events import NoticeEvent
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import RunState

from .watching import (
    cell_runs,
    engine_of,
    executed,
    outputs_text,
    start,
    until,
)

pytestmark = pytest.mark.integration

MIB = 2**20


def run_measured(runs: Runs, path: Path) -> tuple[Any, int]:
    """The ended run, and by how many bytes its engine grew after its first cell at most."""
    record = start(runs, path)
    engine = until(lambda: engine_of(runs, record))
    until(lambda: cell_runs(runs, record, 2))
    first = engine.memory_info().rss
    highest = first
    done = threading.Event()

    def look() -> None:
        nonlocal highest
        while not done.wait(0.05):
            try:
                highest = max(highest, engine.memory_info().rss)
            except psutil.Error:
                return

    looking = threading.Thread(target=look)
    looking.start()
    ended = runs.wait(record.run_id)
    done.set()
    looking.join()
    assert ended.state is RunState.SUCCEEDED, ended.message
    return ended, highest - first


WARM = "import time; time.sleep(1)"


def test_a_million_lines_leave_an_openable_notebook_and_the_whole_beside_it(
    runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    path = make_notebook(
        "x = 1", WARM, "line = 'x' * 99\nfor _ in range(1_000_000):\n    print(line)", "print('after')"
    )
    record, growth = run_measured(runs, path)
    files = runs.files(record)
    assert (files / "executed.ipynb").stat().st_size < 8 * MIB
    assert (files / "outputs" / "cell-3-stdout.log").stat().st_size == 100_000_000
    text = outputs_text(executed(runs, record))
    assert "stdout of 95.4 MiB was cut; the whole of it is in outputs/cell-3-stdout.log" in text
    assert "after" in text
    assert (files / "events.jsonl").stat().st_size < 2 * MIB
    assert growth < 200 * MIB, f"the engine grew by {growth / MIB:.0f} MiB"


def test_a_large_figure_is_kept_apart(runs: Runs, make_notebook: Callable[..., Path]) -> None:
    path = make_notebook(
        "from IPython.display import Image, display\nimport os",
        WARM,
        "display(Image(data=b'\\x89PNG\\r\\n\\x1a\\n' + os.urandom(50_000_000), format='png'))",
        "print('after')",
    )
    record, growth = run_measured(runs, path)
    files = runs.files(record)
    assert (files / "executed.ipynb").stat().st_size < MIB
    assert (files / "outputs" / "cell-3-output-1.png").stat().st_size == 50_000_008
    assert "is kept apart, in outputs/cell-3-output-1.png" in outputs_text(executed(runs, record))
    assert growth < 10 * 50 * MIB, f"the engine grew by {growth / MIB:.0f} MiB"


def test_tiny_outputs_by_the_thousand_are_bounded_and_none_is_lost(
    runs: Runs, make_notebook: Callable[..., Path]
) -> None:
    path = make_notebook(
        "from IPython.display import display",
        WARM,
        "for n in range(12_000):\n    display(n)",
        "import sys\nfor n in range(6_000):\n    print(n, flush=True)\n    print(n, file=sys.stderr, flush=True)",
        "bar = display('0 %', display_id=True)\nfor n in range(2_000):\n    bar.update(f'{n} ' + 'x' * 2000)",
        "print('after')",
    )
    record, growth = run_measured(runs, path)
    nb = executed(runs, record)
    assert (runs.files(record) / "executed.ipynb").stat().st_size < 16 * MIB
    shown = [output for output in nb.cells[2].outputs if output.output_type == "display_data"]
    assert [output.data["text/plain"] for output in shown] == [str(n) for n in range(len(shown))]
    beside = (runs.files(record) / "outputs" / "cell-3-more.log").read_text().split()
    assert [int(number) for number in beside] == list(range(len(shown), 12_000))
    assert f"{len(beside):,} more outputs were left out" in outputs_text(nb)
    for stream in ("stdout", "stderr"):
        log = runs.files(record) / "outputs" / f"cell-4-{stream}.log"
        whole = log.read_text() if log.exists() else "".join(
            output.text for output in nb.cells[3].outputs if output.get("name") == stream
        )  # fmt: skip
        assert whole.split() == [str(n) for n in range(6_000)]
    (bar,) = nb.cells[4].outputs
    assert bar.data["text/plain"].startswith("'1999 ")
    assert "after" in outputs_text(nb)
    assert growth < 200 * MIB, f"the engine grew by {growth / MIB:.0f} MiB"


def test_what_widgets_hold_is_masked_and_bounded(
    runs: Runs, run_notebook: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "correct-horse-battery")
    record = run_notebook(
        "import os, ipywidgets as w\nfrom IPython.display import display, HTML\nsecret = os.environ['DB_PASSWORD']",
        "out = w.Output()\ndisplay(out)\nwith out:\n    print(secret)\n    display(HTML(f'<b>{secret}</b>'))",
        "display(w.HTML(value=f'<i>{secret}</i>'), w.Text(secret, description='x'))\n"
        "display({'text/plain': 'x'}, raw=True, metadata={'note': secret})",
        "with out:\n    for n in range(300):\n        print('x' * 100_000, flush=True)",
        "print('after')",
    )
    assert record.state is RunState.SUCCEEDED, record.message
    for path in runs.files(record).rglob("*"):
        if path.is_file():
            assert b"correct-horse-battery" not in path.read_bytes(), path
    nb = executed(runs, record)
    assert "widgets" in nb.metadata
    assert "***" in json.dumps(nb.metadata.widgets)
    assert (runs.files(record) / "executed.ipynb").stat().st_size < 16 * MIB
    assert (runs.files(record) / "outputs" / "cell-4-more.log").stat().st_size > 20_000_000
    assert "after" in outputs_text(nb)
    assert any("more outputs were left out" in e.message for e in runs.events(record) if isinstance(e, NoticeEvent))
    nbformat.validate(nb)
