from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import nbformat
import pytest
from nbformat import v4

from jupyter_mlops.events import (
    CellEvent,
    DaskUse,
    Event,
    EventWriter,
    GPUUse,
    LogEvent,
    MetricEvent,
    NoticeEvent,
    ResourceEvent,
    RunEvent,
)
from jupyter_mlops.spec import FailureCode, RunState

from .lab import Lab, open_page, run_command, wait_for_kernel

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Locator, Page

pytestmark = pytest.mark.browser

GIB = 2**30
HOSTILE = "<script>window.__pwned=1</script><img src=x onerror=window.__pwned=2>"
SHOW = """\
from pathlib import Path
from jupyter_mlops.events import read_events
from jupyter_mlops.progress.widget import RunWidget

run_dir = Path({name!r})
widget = RunWidget(
    {name!r},
    lambda: read_events(run_dir, follow=True),
    lambda: (run_dir / "cancelled").write_text("yes"),
    expected={{"a": 2.0, "b": 40.0, "c": 60.0, "d": 5.0}},
    files=run_dir,
)
"""


class Run:
    """A run's directory in the lab's root, a notebook that shows it, and a pen for its events."""

    def __init__(self, lab: Lab, name: str, ending: str = "widget") -> None:
        self.name = name
        self.dir = lab.root / name
        self.dir.mkdir()
        self._writer = EventWriter(self.dir)
        cell = v4.new_code_cell(SHOW.format(name=name) + ending)
        nb = v4.new_notebook(cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
        nbformat.write(nb, lab.root / self.notebook)
        nbformat.write(v4.new_notebook(), self.dir / "executed.ipynb")

    @property
    def notebook(self) -> str:
        return f"{self.name}.ipynb"

    def write(self, *events: Event) -> None:
        for event in events:
            self._writer.write(event)

    def bar(self, page: Page) -> Locator:
        return page.get_by_role("progressbar", name=f"Progress of run {self.name}")


def cell(number: int, state: Literal["running", "succeeded", "failed"], title: str) -> CellEvent:
    duration = None if state == "running" else 2.0
    return CellEvent(index=number, number=number, state=state, title=title, digest="_abcd"[number], duration=duration)


def begin(run: Run) -> None:
    run.write(
        RunEvent(state=RunState.PENDING, phase="starting the kernel"),
        RunEvent(
            state=RunState.RUNNING,
            total_cells=4,
            mlflow_run_id="1",
            mlflow_url="https://mlflow.example/#/runs/1",
        ),
        cell(1, "running", "read the measurements"),
        cell(1, "succeeded", "read the measurements"),
        cell(2, "running", "train the model"),
        *(LogEvent(text=f"epoch {i}: loss {math.exp(-i / 9):.4f}, price 3$ and 4$\n") for i in range(30)),
        *(MetricEvent(key="loss", value=math.exp(-i / 9) + 0.05 * math.sin(i), step=i) for i in range(60)),
        *(MetricEvent(key="accuracy", value=1 - math.exp(-i / 12), step=i) for i in range(60)),
        *(MetricEvent(key="learning_rate", value=1e-3 * 0.9**i, step=i) for i in range(60)),
        *(MetricEvent(key="val/f1", value=0.7 + 0.01 * (i % 7), step=i) for i in range(60)),
        ResourceEvent(
            cpu_percent=187,
            memory=int(3.4 * GIB),
            memory_limit=8 * GIB,
            gpus=(GPUUse(index=0, name="GPU", utilization=87, memory_used=20 * GIB, memory_total=80 * GIB),),
            dask=DaskUse(workers=4, threads=8, tasks=120, processing=8, in_memory=40, erred=0, memory=GIB),
        ),
    )


def run_cell(page: Page) -> None:
    wait_for_kernel(page)
    run_command(page, "notebook:run-all-cells")


def save(page: Page) -> None:
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save').then(() => null)")


def picture(page: Page, path: Path) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(300)
    page.screenshot(path=path)


def assert_not_pwned(page: Page) -> None:
    assert page.evaluate("() => typeof window.__pwned") == "undefined"


def test_progress_moves_is_cancelled_and_stays_in_the_saved_notebook(lab: Lab, pictures: Path) -> None:
    from playwright.sync_api import expect

    run = Run(lab, "3f2a9c01")
    run.write(RunEvent(state=RunState.PENDING, phase="starting the kernel"))
    with open_page(lab, "light", run.notebook) as page:
        run_cell(page)
        expect(page.get_by_text("Starting the kernel")).to_be_visible()
        begin(run)
        expect(run.bar(page)).to_have_attribute("aria-valuenow", "25")
        expect(page.get_by_text("Cell 2 of 4: train the model")).to_be_visible()
        expect(page.get_by_role("img", name="accuracy: last")).to_be_visible()
        expect(page.get_by_role("link", name="Open in MLflow")).to_have_attribute(
            "href", "https://mlflow.example/#/runs/1"
        )
        expect(page.get_by_text("%mlops attach 3f2a9c01")).to_be_visible()

        page.get_by_role("button", name="Show log").click()
        expect(page.get_by_role("log", name="Log")).to_contain_text("epoch 0:")
        expect(page.get_by_text("epoch 29: loss")).to_be_in_viewport()
        expect(page.get_by_text("epoch 0: loss")).not_to_be_in_viewport()
        picture(page, pictures / "progress-running-light.png")
        run.write(LogEvent(text="the newest line\n"))
        expect(page.get_by_text("the newest line")).to_be_in_viewport()

        run.write(cell(2, "succeeded", "train the model"), cell(3, "running", "validate"))
        expect(run.bar(page)).to_have_attribute("aria-valuenow", "50")

        page.get_by_role("button", name="Cancel run").click()
        expect(page.get_by_role("button", name="Keep running")).to_be_focused()
        picture(page, pictures / "progress-confirm-light.png")
        page.get_by_role("button", name="Keep running").click()
        expect(page.get_by_role("button", name="Cancel run")).to_be_visible()
        assert not (run.dir / "cancelled").exists()
        page.get_by_role("button", name="Cancel run").click()
        page.get_by_role("button", name="Yes, cancel the run").click()
        expect(page.get_by_text("The run was asked to end.")).to_be_visible()
        assert (run.dir / "cancelled").read_text() == "yes"

        run.write(
            RunEvent(
                state=RunState.CANCELLED,
                code=FailureCode.CANCELLED,
                message="Cancelled by ada.",
                cell_index=3,
            )
        )
        expect(page.get_by_text("Cancelled by ada.")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel run")).to_have_count(0)
        picture(page, pictures / "progress-cancelled-light.png")
        save(page)
    lab.end_kernels()
    with open_page(lab, "light", run.notebook) as page:
        expect(page.get_by_text("Cancelled by ada.")).to_be_visible()
        expect(run.bar(page)).to_have_attribute("aria-valuenow", "50")
        expect(page.get_by_text("Error displaying widget")).to_have_count(0)
        expect(page.get_by_role("link", name="Executed notebook")).to_be_visible()
        picture(page, pictures / "progress-reopened-light.png")
    lab.end_kernels()


def test_hostile_text_is_shown_as_text_live_and_saved(lab: Lab, pictures: Path) -> None:
    from playwright.sync_api import expect

    run = Run(lab, "hostile1")
    begin(run)
    with open_page(lab, "dark", run.notebook) as page:
        run_cell(page)
        run.write(
            cell(2, "succeeded", "train the model"),
            cell(3, "running", HOSTILE),
            MetricEvent(key=HOSTILE, value=1.0),
            LogEvent(text=f"{HOSTILE}\x1b[31mred\u202eab\n"),
            NoticeEvent(level="warning", message=HOSTILE),
            RunEvent(state=RunState.RUNNING, mlflow_url="javascript:window.__pwned=3"),
        )
        expect(page.get_by_text(f"Cell 3 of 4: {HOSTILE}")).to_be_visible()
        expect(page.get_by_text(f"Warning: {HOSTILE}")).to_be_visible()
        page.get_by_role("button", name="Show log").click()
        expect(page.get_by_role("log", name="Log")).to_contain_text(f"{HOSTILE}␛[31mred\\u202eab")
        expect(page.locator("a[href^='javascript']")).to_have_count(0)
        assert_not_pwned(page)
        picture(page, pictures / "progress-running-dark.png")
        run.write(
            cell(3, "failed", HOSTILE),
            RunEvent(
                state=RunState.FAILED,
                code=FailureCode.CELL_FAILED,
                message=f"ValueError: {HOSTILE}",
                hint="Lower the learning rate and run it again.",
                line="model.fit(features, labels)",
                cell_index=3,
            ),
        )
        expect(page.get_by_text(f"ValueError: {HOSTILE}")).to_be_visible()
        expect(page.get_by_text("model.fit(features, labels)")).to_be_visible()
        page.get_by_text("Log", exact=True).click()
        expect(page.get_by_role("log", name="Log")).to_contain_text(HOSTILE)
        assert_not_pwned(page)
        picture(page, pictures / "progress-failed-dark.png")
        save(page)
    lab.end_kernels()
    with open_page(lab, "light", run.notebook) as page:
        expect(page.get_by_text(f"ValueError: {HOSTILE}")).to_be_visible()
        assert_not_pwned(page)
        picture(page, pictures / "progress-failed-light.png")
    lab.end_kernels()


def test_the_view_comes_back_after_a_reload_and_after_a_restart_of_the_kernel(lab: Lab) -> None:
    from playwright.sync_api import expect

    run = Run(lab, "comeback")
    begin(run)
    with open_page(lab, "light", run.notebook) as page:
        run_cell(page)
        expect(run.bar(page)).to_have_attribute("aria-valuenow", "25")
        save(page)
    run.write(cell(2, "succeeded", "train the model"), cell(3, "running", "validate"))
    with open_page(lab, "light", run.notebook) as page:  # another browser on the same kernel
        expect(run.bar(page)).to_have_attribute("aria-valuenow", "50")
        expect(page.get_by_text("Cell 3 of 4: validate")).to_be_visible()

        run_command(page, "kernelmenu:restart")
        page.get_by_role("button", name="Confirm Kernel Restart").click()
        run_cell(page)
        expect(page.get_by_text("Cell 3 of 4: validate")).to_be_visible()
        run.write(cell(3, "succeeded", "validate"), cell(4, "running", "save"))
        expect(run.bar(page)).to_have_attribute("aria-valuenow", "75")
        run.write(cell(4, "succeeded", "save"), RunEvent(state=RunState.SUCCEEDED))
        expect(page.get_by_text("Succeeded")).to_be_visible()
    lab.end_kernels()


def test_a_notebook_saved_in_mid_run_tells_how_to_see_the_run_again(lab: Lab, pictures: Path) -> None:
    from playwright.sync_api import expect

    run = Run(lab, "midway")
    begin(run)
    with open_page(lab, "light", run.notebook) as page:
        run_cell(page)
        expect(run.bar(page)).to_have_attribute("aria-valuenow", "25")
        save(page)
    lab.end_kernels()
    with open_page(lab, "light", run.notebook) as page:
        expect(page.get_by_text("%mlops attach midway")).to_be_visible()
        picture(page, pictures / "progress-midway-light.png")
    lab.end_kernels()


def test_a_view_in_two_places_moves_while_the_kernel_is_busy_and_is_cancelled_after_an_interrupt(
    lab: Lab,
) -> None:
    from playwright.sync_api import expect

    run = Run(lab, "waited", "display(widget)\ndisplay(widget)\nwidget.wait()")
    begin(run)
    with open_page(lab, "light", run.notebook) as page:
        run_cell(page)
        expect(run.bar(page)).to_have_count(2)
        expect(page.get_by_text("This cell waits for the run.")).to_have_count(2)
        run.write(cell(2, "succeeded", "train the model"), cell(3, "running", "validate"))
        for place in (0, 1):
            expect(run.bar(page).nth(place)).to_have_attribute("aria-valuenow", "50")
        run_command(page, "kernelmenu:interrupt")
        expect(page.get_by_text("This cell waits for the run.").locator("visible=true")).to_have_count(0)
        page.get_by_role("button", name="Cancel run").first.click()
        page.get_by_role("button", name="Yes, cancel the run").first.click()
        expect(page.get_by_text("The run was asked to end.")).to_have_count(2)
        assert (run.dir / "cancelled").exists()
        run.write(RunEvent(state=RunState.CANCELLED, message="Cancelled by ada."))
        expect(page.get_by_text("Cancelled by ada.")).to_have_count(2)
    lab.end_kernels()
