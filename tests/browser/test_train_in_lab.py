"""The main job as a person does it: `%mlops train` in the notebook itself, in a real JupyterLab, to MLflow and back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import nbformat
import pytest
from nbformat import v4

from .lab import Lab, open_page, run_command, running_lab, wait_for_kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.pictures]

EXAMPLE = Path(__file__).parents[2] / "examples" / "classification.ipynb"
TRAIN = "%load_ext jupyter_mlops\n%mlops train -p learning_rate=0.01"
EDITED = f"# edited\n{TRAIN}"
PATIENCE = 240_000
"""Milliseconds: the first run of a data directory makes MLflow's database."""


@pytest.fixture(scope="module")
def own_lab(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root = tmp_path_factory.mktemp("own-lab")
    for theme in ("light", "dark"):
        nb = nbformat.read(EXAMPLE, as_version=4)
        nb.cells.append(v4.new_code_cell(TRAIN))
        nbformat.write(nb, root / f"churn-{theme}.ipynb")
    with running_lab(root, {"JUPYTER_MLOPS_DATA_DIR": str(tmp_path_factory.mktemp("data"))}) as running:
        yield running


def run_last_cell(page: Page) -> None:
    wait_for_kernel(page)
    page.evaluate(
        "() => { const content = window.jupyterapp.shell.currentWidget.content;"
        " content.activeCellIndex = content.widgets.length - 1; }"
    )
    run_command(page, "notebook:run-cell")


def run_in(page: Page, source: str) -> str:
    """Execute code in the kernel of the open notebook, beside its cells, and give what it printed."""
    found: str = page.evaluate(
        """async code => {
          const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
          let text = '';
          const future = kernel.requestExecute({ code, store_history: false });
          future.onIOPub = msg => { if (msg.header.msg_type === 'stream') { text += msg.content.text; } };
          await future.done;
          return text;
        }""",
        source,
    )
    return found


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_notebook_trains_itself_with_live_progress_and_is_found_in_mlflow(
    own_lab: Lab, pictures: Path, theme: Literal["light", "dark"]
) -> None:
    from playwright.sync_api import expect

    name = f"churn-{theme}.ipynb"
    with open_page(own_lab, theme, name) as page:
        run_last_cell(page)
        bar = page.get_by_role("progressbar")
        expect(bar).to_have_count(1, timeout=PATIENCE)
        expect(page.get_by_role("img", name=re.compile("val_accuracy: last"))).to_be_visible(timeout=PATIENCE)
        page.mouse.move(0, 0)
        page.wait_for_timeout(300)
        page.screenshot(path=pictures / f"progress-{theme}.png")
        expect(page.get_by_text("Succeeded")).to_be_visible(timeout=PATIENCE)
        # The data directory is not below the lab's, so no link into it would work: its place is told.
        expect(page.get_by_text("Files:")).to_be_visible()

        # The kernel was free all the time, and its own run is found by the commands.
        runs = json.loads(run_in(page, f"%mlops runs --notebook {name} --json"))
        assert [run["state"] for run in runs] == ["succeeded"]
        assert runs[0]["parameters"] == {"learning_rate": 0.01}
        assert runs[0]["source"].endswith(name)

        # What is not saved is not left out silently.
        page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.widgets.at(-1).model.sharedModel"
            f".setSource({json.dumps(EDITED)})"
        )
        run_last_cell(page)
        expect(page.get_by_text("has edits that are not saved")).to_be_visible()
        assert len(json.loads(run_in(page, f"%mlops runs --notebook {name} --json"))) == 1
    own_lab.end_kernels()
