"""The side panel in a real JupyterLab: from the parameters over a live run to the executed notebook."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .lab import Lab, open_page
from .panel import (
    PATIENCE,
    ask,
    open_panel,
    section,
    set_settings,
    start,
    summary,
    unfold,
    wait_for_end,
    write_notebook,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

PARAMETERS = """learning_rate: float = 0.01  # step size
shuffle: bool = True
layers: list = [64, 32]
data_path: str"""
TRAIN = """# train the model
import mlflow
for step in range(5):
    mlflow.log_metric('loss', 1 / (step + 1) * learning_rate, step=step)
    print(f'\\x1b[32mstep {step}\\x1b[0m of', data_path)"""


def edit_cell(page: Page, index: int, source: str) -> None:
    page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.context?.isReady")
    page.evaluate(
        "([index, source]) => window.jupyterapp.shell.currentWidget.content.widgets[index]"
        ".model.sharedModel.setSource(source)",
        [index, source],
    )


def run_button(page: Page, name: str):
    return section(page, "run").get_by_role("button", name=f"Run {name}")


def is_dirty(page: Page) -> bool:
    return bool(page.evaluate("() => window.jupyterapp.shell.currentWidget.context.model.dirty"))


def test_a_notebook_runs_from_its_parameters_to_the_executed_notebook(panel_lab: Lab) -> None:
    from playwright.sync_api import expect

    name = write_notebook(panel_lab, "train.ipynb", TRAIN, parameters=PARAMETERS)
    files = sorted(panel_lab.root.iterdir())
    with open_page(panel_lab, "light", name) as page:
        page.get_by_role("button", name="Run on cluster").click()
        expect(run_button(page, name)).to_be_focused()
        form = section(page, "parameters")
        expect(form.get_by_label("learning_rate")).to_have_value("0.01")
        expect(form.get_by_role("checkbox", name="shuffle")).to_be_checked()
        expect(form.get_by_text("step size")).to_be_visible()

        form.get_by_label("learning_rate").fill("much")
        expect(form.get_by_text("Takes a number")).to_be_visible()
        run_button(page, name).click()
        expect(form.get_by_text("Set a value: it has no default.")).to_be_visible()
        form.get_by_label("learning_rate").fill("0.5")
        form.get_by_label("data_path").fill("data.csv")
        form.get_by_label("layers").fill("[1")  # only the server knows all that Python takes for a list
        expect(form.get_by_text("The parameter 'layers' takes a list")).to_be_visible()
        form.get_by_label("layers").fill("[1, 2]")
        expect(section(page, "run").get_by_text("Ships 1 file")).to_be_visible()

        run_button(page, name).dblclick()
        runs = section(page, "runs")
        expect(runs.get_by_role("progressbar")).to_be_visible()
        expect(page.get_by_role("button", name="1 run has not ended")).to_be_visible()
        expect(summary(page, "train").get_by_text("Succeeded")).to_be_visible(timeout=PATIENCE)
        expect(runs.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
        expect(runs.get_by_role("img", name=re.compile("loss: last 0.1,"))).to_be_visible()
        expect(page.get_by_text("train succeeded.")).to_be_visible()
        unfold(runs, "Log")
        expect(runs.get_by_role("log")).to_contain_text("step 4 of data.csv")
        found = ask(panel_lab, "GET", "/mlops/runs?path=train.ipynb")["runs"]
        assert [run["parameters"] for run in found] == [
            {"learning_rate": 0.5, "data_path": "data.csv", "layers": [1, 2]}
        ]

        sessions = len(ask(panel_lab, "GET", "/api/sessions"))
        runs.get_by_role("button", name="Executed notebook").click()
        expect(page.get_by_role("tab", name=re.compile(r"train \(run"))).to_be_visible()
        expect(page.locator(".jp-mlops-executed .jp-OutputArea-output").get_by_text("step 4")).to_be_visible()
        expect(section(page, "parameters").get_by_text("This notebook is a view")).to_be_visible()
        assert len(ask(panel_lab, "GET", "/api/sessions")) == sessions
    assert [path for path in sorted(panel_lab.root.iterdir()) if not path.name.startswith(".")] == files
    panel_lab.end_kernels()


def test_a_failed_run_tells_the_cell_the_line_the_message_and_what_to_do(panel_lab: Lab) -> None:
    from playwright.sync_api import expect

    name = write_notebook(panel_lab, "failing.ipynb", "x = 0", "y = 1\nimport nowhere_to_be_found")
    with open_page(panel_lab, "light", name) as page:
        open_panel(page)
        run_button(page, name).click()
        runs = section(page, "runs")
        expect(summary(page, "failing").get_by_text("Failed")).to_be_visible(timeout=PATIENCE)
        expect(runs.get_by_text("Cell 2 failed")).to_be_visible()
        expect(runs.locator("code").get_by_text("import nowhere_to_be_found")).to_be_visible()
        expect(runs.get_by_text("ModuleNotFoundError").first).to_be_visible()
        expect(runs.get_by_text("Install it in the kernel's environment")).to_be_visible()
        notification = page.get_by_role("alert").filter(has_text="failing failed:")
        expect(notification).to_be_visible()
        runs.get_by_role("button", name="All runs").click()
        notification.get_by_role("button", name="Show").click()
        expect(runs.get_by_role("heading", name="failing")).to_be_visible()
    panel_lab.end_kernels()


def test_a_run_is_cancelled_and_run_again(panel_lab: Lab) -> None:
    from playwright.sync_api import expect

    name = write_notebook(panel_lab, "long.ipynb", "import time; time.sleep(600)")
    with open_page(panel_lab, "light", name) as page:
        open_panel(page)
        run_button(page, name).click()
        runs = section(page, "runs")
        expect(runs.get_by_text("1. import time")).to_be_visible(timeout=PATIENCE)
        runs.get_by_role("button", name="Cancel run").click()
        expect(summary(page, "long").get_by_text("Cancelled")).to_be_visible(timeout=PATIENCE)
        expect(runs.get_by_role("button", name="Cancel run")).to_have_count(0)
        first = ask(panel_lab, "GET", "/mlops/runs?path=long.ipynb")["runs"][0]["run_id"]
        runs.get_by_role("button", name="Run again").click()
        expect(runs.get_by_role("button", name="Cancel run")).to_be_enabled()
        again = ask(panel_lab, "GET", "/mlops/runs?path=long.ipynb")["runs"][0]
        assert again["retry_of"] == first
        panel_lab.request("POST", f"/mlops/runs/{again['run_id']}/cancel", {})
        expect(summary(page, "long").get_by_text("Cancelled")).to_be_visible(timeout=PATIENCE)
    panel_lab.end_kernels()


@pytest.mark.parametrize("choice", ["save", "ship"])
def test_edits_that_are_not_saved_are_saved_first_or_ship(panel_lab: Lab, choice: str) -> None:
    from playwright.sync_api import expect

    name = write_notebook(panel_lab, f"edited-{choice}.ipynb", "print('as saved')")
    set_settings(panel_lab, unsavedEdits=choice)
    with open_page(panel_lab, "light", name) as page:
        open_panel(page)
        edit_cell(page, 0, "print('as edited')")
        said = "saved first" if choice == "save" else "ship with the run"
        expect(section(page, "run").get_by_text(said)).to_be_visible()
        run_button(page, name).click()
        expect(summary(page, f"edited-{choice}").get_by_text("Succeeded")).to_be_visible(timeout=PATIENCE)
        run_id = ask(panel_lab, "GET", f"/mlops/runs?path={name}")["runs"][0]["run_id"]
        executed = ask(panel_lab, "GET", f"/mlops/runs/{run_id}/notebook")
        assert "as edited" in executed["cells"][0]["outputs"][0]["text"]
        on_disk = (panel_lab.root / name).read_text()
        assert ("as edited" in on_disk) == (choice == "save")
        if choice == "ship":
            assert is_dirty(page)
    set_settings(panel_lab)
    panel_lab.end_kernels()


def test_a_cell_is_tagged_in_one_click(panel_lab: Lab) -> None:
    from playwright.sync_api import expect

    name = write_notebook(panel_lab, "untagged.ipynb", "batch: int = 32", "print(batch)")
    with open_page(panel_lab, "light", name) as page:
        open_panel(page)
        form = section(page, "parameters")
        form.get_by_role("button", name="Tag this cell as parameters").click()
        expect(form.get_by_label("batch")).to_have_value("32")
        edit_cell(page, 0, "batch: int = 64\ndepth = 3")  # what is not saved counts
        expect(form.get_by_label("batch")).to_have_value("64")
        expect(form.get_by_label("depth")).to_have_value("3")
    panel_lab.end_kernels()


def test_what_was_chosen_comes_back_after_a_reload(panel_lab: Lab) -> None:
    from playwright.sync_api import expect

    name = write_notebook(panel_lab, "kept.ipynb", "print(rate)", parameters="rate: float = 0.1")
    run_id = start(panel_lab, path=name)
    wait_for_end(panel_lab, run_id)
    with open_page(panel_lab, "light", name) as page:
        panel = open_panel(page)
        section(page, "parameters").get_by_label("rate").fill("0.7")
        section(page, "runs").get_by_role("option").first.click()
        expect(section(page, "runs").get_by_role("heading", name="kept")).to_be_visible()
        panel.get_by_role("button", name="Run", exact=True).or_(panel.get_by_role("heading", name="Run")).first.click()
        expect(section(page, "run")).to_be_hidden()
        page.wait_for_timeout(2500)  # Lab keeps its layout, and the panel its state, a moment later
        page.goto(f"{panel_lab.url}/lab")
        page.wait_for_function("() => window.jupyterapp !== undefined")
        page.evaluate("() => window.jupyterapp.restored.then(() => null)")
        expect(section(page, "runs").get_by_role("heading", name="kept")).to_be_visible()
        expect(section(page, "run")).to_be_hidden()
        expect(section(page, "parameters").get_by_label("rate")).to_have_value("0.7")
    panel_lab.end_kernels()


def test_the_file_browser_leads_to_the_panel(panel_lab: Lab) -> None:
    from playwright.sync_api import expect

    name = write_notebook(panel_lab, "from-browser.ipynb", "pass")
    with open_page(panel_lab) as page:
        page.locator(".jp-DirListing-item", has_text=name).click(button="right")
        page.get_by_role("menuitem", name="Run on Cluster…").click()
        expect(run_button(page, name)).to_be_visible()
    panel_lab.end_kernels()


def test_a_run_that_was_started_elsewhere_shows_by_itself(panel_lab: Lab) -> None:
    from playwright.sync_api import expect

    name = write_notebook(panel_lab, "meanwhile.ipynb", "print('x')")
    with open_page(panel_lab, "light", name) as page:
        open_panel(page)
        expect(section(page, "runs").get_by_role("listbox")).to_be_visible()
        start(panel_lab, path=name)
        row = section(page, "runs").get_by_role("option", name=re.compile("meanwhile"))
        expect(row).to_be_visible()
        expect(row).to_contain_text("Succeeded", timeout=PATIENCE)
    panel_lab.end_kernels()
