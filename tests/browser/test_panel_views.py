"""The side panel against what is hostile, large or narrow, and for those who use no mouse or see no colours."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import pytest

from .lab import Lab, open_page, wait_for_kernel
from .panel import (
    PATIENCE,
    open_panel,
    resize_panel,
    section,
    serious_faults,
    start,
    summary,
    unfold,
    wait_for_end,
    write_notebook,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

HOSTILE = "<img src=x onerror='window.__pwned=1'>"


def assert_not_pwned(page: Page) -> None:
    page.wait_for_timeout(500)
    assert page.evaluate("() => typeof window.__pwned") == "undefined"


def test_hostile_names_and_texts_are_shown_as_text(panel_lab: Lab) -> None:
    from playwright.sync_api import expect

    parameters = f"constructor: int = 1  # {HOSTILE}\n__proto__: str = 'p'\nname: str = \"{HOSTILE}\""
    code = (
        "import mlflow\n"
        f'print("{HOSTILE}\\x1b[31mred\\x1b[0m\\u202eab")\n'
        # MLflow itself refuses more of a metric's name.
        "for step, value in enumerate([1.0, float('nan'), 2.0, 3.0]): mlflow.log_metric('m/on: b', value, step=step)\n"
        f'raise ValueError("{HOSTILE}")'
    )
    name = write_notebook(panel_lab, "a <b>&amp; b.ipynb", code, parameters=parameters)
    with open_page(panel_lab, "light", name) as page:
        open_panel(page)
        form = section(page, "parameters")
        expect(form.get_by_text(HOSTILE)).to_be_visible()
        expect(form.get_by_label("name")).to_have_value(HOSTILE)
        form.get_by_label("constructor").fill("5")
        form.get_by_label("__proto__").fill(HOSTILE)
        section(page, "run").get_by_role("button", name="Run a <b>&amp; b.ipynb").click()
        runs = section(page, "runs")
        expect(summary(page, "a <b>&amp; b").get_by_text("Failed")).to_be_visible(timeout=PATIENCE)
        expect(runs.get_by_role("heading", name="a <b>&amp; b")).to_be_visible()
        expect(runs.get_by_text(f"ValueError: {HOSTILE}").first).to_be_visible()
        expect(runs.get_by_role("log")).to_contain_text(f"{HOSTILE}red\\u202eab")
        expect(runs.get_by_text("m/on: b", exact=True)).to_be_visible()
        unfold(runs, "Facts")
        expect(runs.get_by_role("definition").filter(has_text=HOSTILE).first).to_be_visible()
        expect(runs.get_by_role("term").filter(has_text="__proto__")).to_be_visible()
        runs.get_by_role("button", name="Executed notebook").click()
        page.locator(".jp-mlops-executed").wait_for()
        assert page.locator(".jp-mlops-panel img, .jp-mlops-panel b").count() == 0
        assert_not_pwned(page)
    panel_lab.end_kernels()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_wide_and_narrow(panel_lab: Lab, theme: Literal["light", "dark"]) -> None:
    from playwright.sync_api import expect

    name = write_notebook(
        panel_lab,
        "accessible.ipynb",
        "import mlflow\n[mlflow.log_metric('loss', 1 / (step + 1), step=step) for step in range(5)]\nprint('done')",
        parameters="rate: float = 0.1  # step size\nflag: bool = True\nkinds: list = [1]\ndata: str",
    )
    run_id = start(panel_lab, path=name, assignments={"data": "x"})
    assert wait_for_end(panel_lab, run_id)["state"] == "succeeded"
    with open_page(panel_lab, theme, name) as page:
        open_panel(page)
        section(page, "parameters").get_by_label("rate").fill("much")
        expect(section(page, "parameters").get_by_text("Takes a number")).to_be_visible()
        unfold(section(page, "run"), "Resources of this run")
        expect(section(page, "runs").get_by_role("option").first).to_be_visible()
        assert serious_faults(page, ".jp-mlops-panel") == []
        resize_panel(page, 240)
        assert_nothing_sticks_out(page)
        section(page, "runs").get_by_role("option").first.click()
        expect(section(page, "runs").get_by_role("img", name="loss")).to_be_visible()
        unfold(section(page, "runs"), "Log")
        unfold(section(page, "runs"), "Facts")
        assert serious_faults(page, ".jp-mlops-panel") == []
        assert_nothing_sticks_out(page)
    panel_lab.end_kernels()


def assert_nothing_sticks_out(page: Page) -> None:
    """No section scrolls sideways."""
    wide = page.evaluate(
        "() => [...document.querySelectorAll('.jp-mlops-section, .jp-mlops-details')]"
        ".filter(node => node.scrollWidth > node.clientWidth + 1).map(node => node.id || node.className)"
    )
    assert wide == []


def test_runs_are_opened_and_compared_with_the_keyboard_alone(panel_lab: Lab) -> None:
    from playwright.sync_api import expect

    name = write_notebook(
        panel_lab,
        "keys.ipynb",
        "import mlflow\n[mlflow.log_metric('loss', rate / (step + 1), step=step) for step in range(5)]",
        parameters="rate: float = 0.1\nsame: int = 1",
    )
    for rate in ("0.1", "0.2"):
        wait_for_end(panel_lab, start(panel_lab, path=name, assignments={"rate": rate}))
    with open_page(panel_lab, "light", name) as page:
        wait_for_kernel(page)  # a notebook that has just been opened takes the focus when it is ready
        open_panel(page)
        runs = section(page, "runs")
        expect(runs.get_by_role("option").nth(1)).to_be_visible()
        expect(section(page, "run").get_by_role("button", name="Run keys.ipynb")).to_be_focused()
        for _ in range(10):
            page.keyboard.press("Tab")
            if page.evaluate("() => document.activeElement.getAttribute('role')") == "listbox":
                break
        page.keyboard.press("Enter")
        expect(runs.get_by_role("heading", name="keys")).to_be_focused()
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Enter")
        expect(runs.get_by_role("listbox")).to_be_focused()
        for key in ("Space", "ArrowDown", "Space"):
            page.keyboard.press(key)
        expect(runs.get_by_role("option", selected=True)).to_have_count(2)
        page.keyboard.press("Shift+Tab")
        page.keyboard.press("Shift+Tab")
        expect(runs.get_by_role("button", name="Compare 2 runs")).to_be_focused()
        page.keyboard.press("Enter")
        table = page.locator(".jp-mlops-comparison").get_by_role("table")
        expect(table.get_by_role("row", name=re.compile(r"^rate\s*, differs"))).to_contain_text("0.2", timeout=PATIENCE)
        expect(table.get_by_role("row", name="same")).to_be_visible()
        page.get_by_role("checkbox", name="Only what differs").check()
        expect(table.get_by_role("row", name="same")).to_have_count(0)
        expect(page.get_by_role("img", name="loss, last values")).to_be_visible()
        assert serious_faults(page, ".jp-mlops-comparison") == []
    panel_lab.end_kernels()
