"""Jobs, slots and the audit log on SQLite; and that the hot questions never read a whole table."""

from __future__ import annotations

from pathlib import Path

import pytest

from .job_cases import JobCases


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


class TestOnSQLite(JobCases):
    """All of it on a file."""
