"""Whom an engine that waits may serve."""

from __future__ import annotations

import os
import site
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_mlops.warm.waiting import key

if TYPE_CHECKING:
    import pytest


def test_it_serves_whoever_has_the_same_variables_but_for_those_of_the_terminal() -> None:
    same = {"A": "1", "COLUMNS": "80", "JPY_PARENT_PID": "7"}
    assert key(same) == key({"A": "1", "COLUMNS": "120"})
    assert key(same) != key({**same, "A": "2"})


def test_it_serves_nobody_after_something_was_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "getsitepackages", lambda: [str(tmp_path), str(tmp_path / "missing")])
    before = key({})
    assert key({}) == before
    (tmp_path / "__editable__.mine.pth").write_text("/somewhere")
    os.utime(tmp_path, ns=(1, 1))  # whatever the file system's clock can tell apart
    assert key({}) != before
