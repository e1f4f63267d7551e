"""Jobs, slots and the audit log on a real PostgreSQL: everything that they promise on SQLite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.store.job_cases import JobCases

from .postgresql import PostgreSQL, postgresql

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql() as running:
        yield running


@pytest.fixture
def url(server: PostgreSQL) -> str:
    return server.new_database()


class TestOnPostgreSQL(JobCases):
    """All of it."""
