"""What MLflow's address says by itself: which kind of store it is, where its files lie, how to show it.

Pure functions over the text of a URI, and nothing of MLflow.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from ..config import without_credentials
from ..errors import TrackingError

ARTIFACTS = "mlartifacts"
"""Beside an SQLite database: the directory with its runs' files."""

_SQLITE = re.compile(r"sqlite(?:\+\w+)?://", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/@\s'\"]+@")


def is_server(uri: str) -> bool:
    """Whether it is a server that is spoken to over HTTP."""
    return uri.lower().startswith(("http://", "https://"))


def is_file_store(uri: str) -> bool:
    """Whether it is a directory, MLflow's oldest kind of store."""
    return uri.lower().startswith("file:") or "://" not in uri


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite store; None for another kind.

    Raises:
        TrackingError: the database has no file, so that no second process could see it.
    """
    match = _SQLITE.match(uri)
    if match is None:
        return None
    # SQLAlchemy's form: three slashes before a relative path, four before an absolute one.
    path = uri[match.end() :].partition("?")[0].removeprefix("/")
    if not path or path == ":memory:" or path.startswith("file:"):
        raise TrackingError(
            "MLflow's database has no file of its own, so the run and this process could not share it.",
            hint="Set MLFLOW_TRACKING_URI to sqlite:////absolute/path/mlflow.db or to a server.",
        )
    return Path(path)


def absolute_uri(uri: str) -> str:
    """The same store, named so that it is found from every working directory.

    Raises:
        TrackingError: it is no address, or an SQLite database without a file.
    """
    if not uri.strip():
        raise TrackingError("MLflow's address is empty.", hint="Set MLFLOW_TRACKING_URI or c.MLOps.tracking_uri.")
    try:
        urlsplit(uri)
    except ValueError:
        raise TrackingError(
            "MLflow's address is not a URL.",
            hint="It looks like https://mlflow.example.org or sqlite:////a/file.db.",
        ) from None
    path = sqlite_path(uri)
    if path is not None:
        scheme, _, rest = uri.partition("://")
        query = rest.partition("?")[2]
        return f"{scheme}:///{path.absolute()}" + (f"?{query}" if query else "")
    if "://" not in uri and not uri.startswith("file:") and ":" not in uri.split("/", maxsplit=1)[0]:
        # `databricks` and its like are words, not directories.
        return uri if uri in ("databricks", "databricks-uc", "uc") else Path(uri).expanduser().absolute().as_uri()
    return uri


def artifact_root(database: Path) -> Path:
    """Where the files of the runs of an SQLite store lie."""
    return database.absolute().parent / ARTIFACTS


def shown(uri: str) -> str:
    """The address as it may stand in a message: without credentials, on one line."""
    try:
        return " ".join(without_credentials(uri).split())
    except ValueError:
        return "the configured address"


def scrub(text: str) -> str:
    """A text of another program without user names and passwords inside URLs."""
    return _USERINFO.sub("", text)


def run_url(uri: str, experiment_id: str, mlflow_run_id: str) -> str | None:
    """Where a browser shows the run; None for a store without a server."""
    if not is_server(uri):
        return None
    return f"{shown(uri).rstrip('/')}/#/experiments/{experiment_id}/runs/{mlflow_run_id}"


def split_credentials(uri: str) -> tuple[str, dict[str, str]]:
    """The address without user name and password, and those as the variables that MLflow reads.

    MLflow prints its address into a notebook's output, so the password had better not be part of it. An
    address with only one of the two comes back whole: MLflow's variables mean nothing alone.
    """
    from urllib.parse import unquote

    if not is_server(uri):
        return uri, {}
    parts = urlsplit(uri)
    if not parts.username or not parts.password:
        return uri, {}
    bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return bare, {
        "MLFLOW_TRACKING_USERNAME": unquote(parts.username),
        "MLFLOW_TRACKING_PASSWORD": unquote(parts.password),
    }
