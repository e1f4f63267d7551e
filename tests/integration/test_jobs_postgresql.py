"""Jobs, slots and the audit log on a real PostgreSQL: everything that they promise on SQLite."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from jupyter_mlops.errors import StoreError
from jupyter_mlops.store.audit import AuditStore, append
from jupyter_mlops.store.database import Store
from tests.unit.store.job_cases import JobCases, entry

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


def test_a_writer_that_is_stopped_in_the_middle_holds_the_others_up_for_a_while_only(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Store, "hurry",
        staticmethod(lambda s: s.execute(text("SELECT set_config('idle_in_transaction_session_timeout', '2s', true)"))),
    )  # fmt: skip
    store = Store(url)
    stopped = store.writing()
    session = stopped.__enter__()
    append(session, entry("stopped"))
    assert AuditStore(store).add(entry("other")).seq == 1
    with pytest.raises(StoreError):
        stopped.__exit__(None, None, None)
    assert [logged.entry.action for logged in AuditStore(store).entries()] == ["other"]
    store.close()
