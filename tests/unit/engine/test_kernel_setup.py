from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from jupyter_mlops.engine.kernel_setup import setup_source


def test_a_kernel_that_waited_elsewhere_gets_its_directory_and_variables_from_inside(tmp_path: Path) -> None:
    hostile = tmp_path / 'it\'s "here" $(x)'
    hostile.mkdir()
    source = setup_source(
        environment={"A_NAME": "a 'value'"}, seed=3, autolog=False, sources="", directory=hostile
    )  # fmt: skip
    told = subprocess.run(
        [sys.executable, "-c", f"{source}\nimport os\nprint(os.getcwd())\nprint(os.environ['A_NAME'])\n"
         "print([name for name in globals() if 'mlops' in name])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.splitlines() == [os.path.realpath(hostile), "a 'value'", "[]"]


def test_a_kernel_that_was_started_for_the_run_stays_where_it_is() -> None:
    assert "chdir" not in setup_source(environment={}, seed=0, autolog=False, sources="")
