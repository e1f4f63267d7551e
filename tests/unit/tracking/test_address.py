"""What MLflow's address says by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.errors import TrackingError
from jupyter_mlops.tracking import address


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:////a/b.db", Path("/a/b.db")),
        ("sqlite:///b.db", Path("b.db")),
        ("sqlite+pysqlite:////a/b c%20#.db?timeout=3", Path("/a/b c%20#.db")),
        ("postgresql://h/d", None),
        ("http://sqlite:///x", None),
        ("./mlruns", None),
    ],
)
def test_the_file_of_an_sqlite_store(uri: str, path: Path | None) -> None:
    assert address.sqlite_path(uri) == path


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:", "sqlite:///"])
def test_a_database_that_nobody_else_could_see_is_refused(uri: str) -> None:
    with pytest.raises(TrackingError, match="no file of its own"):
        address.absolute_uri(uri)


@pytest.mark.parametrize("uri", ["", "  ", "http://[", "https://[::1"])
def test_what_is_no_address_is_refused(uri: str) -> None:
    with pytest.raises(TrackingError, match="address"):
        address.absolute_uri(uri)


def test_relative_stores_are_named_absolutely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert address.absolute_uri("sqlite:///m.db") == f"sqlite:///{tmp_path}/m.db"
    assert address.absolute_uri("sqlite:////x/m.db?a=b") == "sqlite:////x/m.db?a=b"
    assert address.absolute_uri("mlruns") == (tmp_path / "mlruns").as_uri()
    assert address.absolute_uri("./a b") == (tmp_path / "a b").as_uri()
    for uri in ("https://u:p@h/x", "file:///a/b", "postgresql://h/d", "databricks"):
        assert address.absolute_uri(uri) == uri


def test_a_browsers_address_has_no_credentials() -> None:
    assert address.run_url("https://u:geheim1@h:1/mlflow/", "3", "r") == "https://h:1/mlflow/#/experiments/3/runs/r"
    assert address.run_url("sqlite:////a.db", "3", "r") is None
    assert address.run_url("file:///a", "3", "r") is None


@pytest.mark.parametrize(
    ("uri", "bare", "variables"),
    [
        (
            "https://u:p%40x@h:1/m",
            "https://h:1/m",
            {"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p@x"},
        ),
        ("https://h/m", "https://h/m", {}),
        ("https://token@h/m", "https://token@h/m", {}),
        ("postgresql://u:p@h/d", "postgresql://u:p@h/d", {}),
    ],
)
def test_a_password_is_handed_over_apart(uri: str, bare: str, variables: dict[str, str]) -> None:
    assert address.split_credentials(uri) == (bare, variables)


@given(
    st.text("abcdefghij0123456789._~%-", min_size=6, max_size=20),
    st.text("abcdefghij0123456789._~%!$&*+,;=-", min_size=6),
)
def test_no_password_is_ever_shown(user: str, password: str) -> None:
    uri = f"https://{user}:{password}@mlflow.example.org/x"
    for text in (
        address.shown(uri),
        address.scrub(f"GET {uri} failed ('{uri}')"),
        address.run_url(uri, "1", "2") or "",
    ):
        assert f"{user}:{password}" not in text
        assert "mlflow.example.org" in text
