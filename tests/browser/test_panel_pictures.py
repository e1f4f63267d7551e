"""The docs' pictures of the side panel: the classification example, run from its form."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Literal

import pytest

from .lab import Lab, open_page, run_command
from .panel import PATIENCE, open_panel, resize_panel, section, summary

pytestmark = [pytest.mark.browser, pytest.mark.pictures]

EXAMPLE = Path(__file__).parents[2] / "examples" / "classification.ipynb"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_panel_beside_an_example(panel_lab: Lab, pictures: Path, theme: Literal["light", "dark"]) -> None:
    from playwright.sync_api import expect

    name = f"tumours-{theme}.ipynb"
    shutil.copy(EXAMPLE, panel_lab.root / name)
    with open_page(panel_lab, theme, name) as page:
        page.set_viewport_size({"width": 1280, "height": 1000})
        run_command(page, "application:toggle-left-area")
        open_panel(page)
        resize_panel(page, 400)
        form = section(page, "parameters")
        form.get_by_label("learning_rate").fill("0.002")
        form.get_by_label("epochs").fill("200")
        expect(section(page, "run").get_by_text("Ships 1 file")).to_be_visible()
        section(page, "run").get_by_role("button", name=f"Run {name}").click()
        runs = section(page, "runs")
        expect(runs.get_by_role("img", name=re.compile("val_accuracy: last"))).to_be_visible(timeout=PATIENCE)
        page.mouse.move(300, 500)
        page.wait_for_timeout(3000)
        runs.get_by_role("heading", level=3).last.scroll_into_view_if_needed()
        page.screenshot(path=pictures / f"panel-{theme}.png")
        expect(summary(page, f"tumours-{theme}").get_by_text("Succeeded")).to_be_visible(timeout=PATIENCE)
    panel_lab.end_kernels()
