"""The side panel as a person uses it, for the tests of it: notebooks to run, its parts by role, and axe."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat import v4

from .lab import Lab, run_command

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE = 180_000
"""Milliseconds for a run: its kernel, MLflow and the first cells."""


def write_notebook(lab: Lab, name: str, *cells: str, parameters: str | None = None) -> str:
    """Save a notebook of code cells in the root; `parameters` is the source of a first, tagged cell."""
    nb = v4.new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"},
            "language_info": {"name": "python"},
        }
    )
    if parameters is not None:
        nb.cells.append(v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
    nb.cells += [v4.new_code_cell(source) for source in cells]
    path = lab.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    return name


def ask(lab: Lab, method: str, path: str, body: object = None) -> Any:
    """JSON of the server's REST interface."""
    return json.loads(lab.request(method, path, body))


def start(lab: Lab, **request: object) -> str:
    """Start a run without the panel; gives its id."""
    run_id: str = ask(lab, "POST", "/mlops/runs", request)["run"]["run_id"]
    return run_id


def wait_for_end(lab: Lab, run_id: str) -> dict[str, Any]:
    """Wait until a run has ended; gives how it stands."""
    deadline = time.monotonic() + PATIENCE / 1000
    while True:
        run: dict[str, Any] = ask(lab, "GET", f"/mlops/runs/{run_id}")["run"]
        if run["state"] not in ("pending", "running") or time.monotonic() > deadline:
            return run
        time.sleep(0.5)


def open_panel(page: Page) -> Locator:
    """Show the panel, with the section that starts runs."""
    run_command(page, "mlops:run")
    panel = page.locator(".jp-mlops-panel")
    panel.wait_for()
    return panel


def section(page: Page, name: str) -> Locator:
    """A section of the panel: parameters, run, runs."""
    return page.locator(f"#jupyter-mlops-panel-{name}")


def summary(page: Page, name: str) -> Locator:
    """How the opened run of that name stands."""
    details = page.locator(".jp-mlops-details").filter(has=page.get_by_role("heading", name=name, exact=True))
    return details.locator(".jp-mlops-summary")


def unfold(part: Locator, title: str) -> None:
    """Open a folded part of a section, unless it is open."""
    details = part.locator("details").filter(has=part.page.locator("summary", has_text=title))
    details.wait_for()
    if details.get_attribute("open") is None:
        details.locator("summary").press("Enter")  # a notification may lie over it


def resize_panel(page: Page, width: int) -> None:
    """Drag the edge of the panel until it is so wide, in pixels, the bar with its icon not counted."""
    stack = page.locator("#jp-right-stack")
    for _ in range(3):  # the first pixels of a drag are lost
        box = stack.bounding_box()
        assert box is not None
        if abs(box["width"] - width) < 2:
            return
        x, y = box["x"] - 2, box["y"] + 300
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + (box["width"] - width) / 2, y, steps=4)
        page.mouse.move(x + box["width"] - width, y, steps=4)
        page.mouse.up()
        page.wait_for_timeout(300)
    box = stack.bounding_box()
    assert box is not None
    assert abs(box["width"] - width) < 12, box


def set_settings(lab: Lab, **values: object) -> None:
    """Settings of the panel, as the settings editor saves them; read when Lab is loaded."""
    lab.request("PUT", "/lab/api/settings/jupyter-mlops:panel", {"raw": json.dumps(values)})


def serious_faults(page: Page, selector: str) -> list[str]:
    """What axe finds in a part of the page that is serious or worse, in a line each."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("selector => axe.run(selector, { resultTypes: ['violations'] })", selector)
    return [
        f"{violation['id']} ({violation['impact']}): {node['html'][:200]} {node['failureSummary']}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
