"""Each failure of MLflow, its database and the network becomes a sentence of its own."""

from __future__ import annotations

import errno

import pytest

from jupyter_mlops.errors import TrackingError
from jupyter_mlops.tracking.trouble import explain

SERVER = "https://ada:geheim1@mlflow.example.org"
DATABASE = "sqlite:////data/mlflow.db"


@pytest.mark.parametrize(
    ("text", "uri", "sentence"),
    [
        ("API request to https://ada:geheim1@mlflow.example.org/x failed with exception Max retries exceeded",
         SERVER, "cannot be reached"),
        ("API request to endpoint /api failed with error code 401 != 200.", SERVER, "refused the user"),
        ("API request to endpoint /api failed with error code 403 != 200. Response: 'Invalid Host header'",
         SERVER, "under this host name"),
        ("API request to endpoint /api failed with error code 502 != 200.", SERVER, "HTTP 502"),
        ("API request to endpoint /api failed with error code 404 != 200.", SERVER, "is not MLflow"),
        ("response body was not in a valid JSON format", SERVER, "is not MLflow"),
        ("too many 503 error responses", SERVER, "HTTP 503"),
        ("Something new\nwith lines https://ada:geheim1@mlflow.example.org", SERVER, "did not take it: Something new"),
        ("(sqlite3.OperationalError) database is locked", DATABASE, "is locked"),
        ("(sqlite3.OperationalError) attempt to write a readonly database", DATABASE, "cannot be written"),
        ("(sqlite3.OperationalError) unable to open database file", DATABASE, "cannot be written"),
        ("(sqlite3.OperationalError) database or disk is full", DATABASE, "the disk is full"),
        ("(sqlite3.DatabaseError) file is not a database", DATABASE, "is not an SQLite database"),
        ("found version ffff00000000, but expected 1a2b", DATABASE, "newer MLflow"),
        ("Can't locate revision identified by 'ffff00000000'", DATABASE, "newer MLflow"),
        ("found version 451aebb31d03, but expected 1a2b", DATABASE, "older MLflow"),
        ("database is locked", SERVER, "did not take it"),
        ("", SERVER, "did not take it: Exception"),
    ],
)  # fmt: skip
def test_every_failure_has_its_sentence(text: str, uri: str, sentence: str) -> None:
    error = explain(Exception(text), uri)
    assert sentence in error.message
    assert "geheim1" not in error.message + error.hint
    assert "\n" not in error.message


def test_time_outs_files_and_our_own_errors() -> None:
    assert "did not answer within 7 s" in explain(TimeoutError(), SERVER, waited=7).message
    full = explain(OSError(errno.ENOSPC, "No space left on device", "/a/b"), DATABASE)
    assert "disk is full" in full.message
    denied = explain(PermissionError(errno.EACCES, "Permission denied", "/a/b"), DATABASE)
    assert "cannot be written: Permission denied (/a/b)" in denied.message
    own = TrackingError("mine")
    assert explain(own, SERVER) is own


def test_codes_of_mlflow_decide_over_its_words() -> None:
    from mlflow.exceptions import RestException

    refused = RestException({"error_code": "PERMISSION_DENIED", "message": "Permission denied"})
    assert "refused the user" in explain(refused, SERVER).message
    missing = RestException({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Run 'x' not found"})
    assert "Run 'x' not found" in explain(missing, SERVER).message
