"""The tutorial, done: its notebook is made from its blocks, and its shell blocks are run in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import nbformat.v4
import pytest

from .pages import ROOT, blocks

pytestmark = pytest.mark.integration


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def _shell(script: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=directory,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_tutorial_works_block_by_block(tmp_path: Path) -> None:
    page = [*blocks(ROOT / "docs" / "tutorial.md")]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(block.text.rstrip("\n")) for block in page if "cell" in block.words],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    assert len(notebook.cells) == 2
    nbformat.write(notebook, tmp_path / "wine.ipynb")

    for block in page:
        if block.language != "sh":
            continue
        script = block.text
        if "FIRST" in script:
            listed = _shell("jupyter mlops runs --json", tmp_path)
            second, first = (run["run_id"] for run in json.loads(listed.stdout))
            script = script.replace("FIRST", first).replace("SECOND", second)
        done = _shell(script, tmp_path)
        assert done.returncode == 0, f"{block.place}\n{script}\n{done.stdout}\n{done.stderr}"

    runs = json.loads(_shell("jupyter mlops runs --notebook wine.ipynb --json", tmp_path).stdout)
    assert [run["state"] for run in runs] == ["succeeded", "succeeded"]
    assert [run["parameters"] for run in runs] == [{"depth": 1}, {}]
