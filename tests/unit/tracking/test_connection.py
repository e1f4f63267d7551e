"""The connection to MLflow's SQLite database, without MLflow."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import create_engine, text

from jupyter_mlops.tracking.connection import _written_later


def synchronous(path: Path) -> int:
    engine = create_engine(f"sqlite:///{path}")
    try:
        with engine.connect() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS t (x)"))
            return int(connection.execute(text("PRAGMA synchronous")).scalar_one())
    finally:
        engine.dispose()


def test_only_the_database_that_is_being_made_does_without_waiting_for_the_disk(tmp_path: Path) -> None:
    made, other = tmp_path / "made.db", tmp_path / "other.db"
    (tmp_path / "link").symlink_to(tmp_path)
    made.touch()
    usual = synchronous(other)
    assert usual != 0
    with _written_later(made):
        assert synchronous(made) == 0
        assert synchronous(tmp_path / "link" / "made.db") == 0
        assert synchronous(other) == usual
        with create_engine("sqlite://").connect() as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar_one() == usual
    assert synchronous(made) == usual
