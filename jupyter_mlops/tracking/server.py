"""MLflow's address: whether it answers, and the command that shows the default store in a browser.

The check speaks HTTP and SQLite by itself and does not import MLflow, which takes longer than the check.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import TrackingError
from . import trouble
from .address import absolute_uri, artifact_root, is_file_store, is_server, shown, sqlite_path
from .patience import within

_PROBE = "/api/2.0/mlflow/experiments/search"


def check_tracking(uri: str, timeout: float) -> None:
    """Whether MLflow is there and takes this user; returns when so.

    A database of another kind than SQLite is not looked at; its first use tells.

    Args:
        uri: MLflow's address, with credentials if it has them.
        timeout: Seconds to wait for an answer, or for a lock on the database.

    Raises:
        TrackingError: it is away, slow, not MLflow, refuses the user, or cannot be written.
    """
    uri = absolute_uri(uri)
    if is_server(uri):
        # requests bounds the wait for each piece of an answer, not for all of it, nor for the name's look-up.
        try:
            within(timeout + 0.5, lambda: _check_server(uri, timeout))
        except TimeoutError:
            raise trouble.slow(uri, timeout) from None
        return
    path = sqlite_path(uri)
    if path is not None:
        _check_sqlite(uri, path, timeout)
    elif is_file_store(uri):
        from urllib.parse import unquote, urlsplit

        _check_room(Path(unquote(urlsplit(uri).path)))


def _check_server(uri: str, timeout: float) -> None:
    import requests

    settings, certain = _http_settings()
    try:
        with requests.get(
            uri.rstrip("/") + _PROBE, params={"max_results": 1}, timeout=timeout, stream=True, **settings
        ) as response:
            status = response.status_code
            body = response.raw.read(4096, decode_content=True).lstrip()
    except requests.exceptions.SSLError:
        raise trouble.untrusted(uri) from None
    except requests.exceptions.Timeout:
        raise trouble.slow(uri, timeout) from None
    except (requests.exceptions.RequestException, OSError, ValueError):
        raise trouble.away(uri) from None
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        if certain:
            raise trouble.refused(uri, body.decode(errors="replace"))
        return
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        raise trouble.failing(uri, status)
    if status != HTTPStatus.OK or not body.startswith(b"{"):
        raise trouble.wrong_address(uri)


def run_tag(uri: str, mlflow_run_id: str, name: str, timeout: float) -> str | None:
    """A tag of a run, for who has no time to import MLflow; None: the run has no such tag.

    Args:
        uri: MLflow's address, of a server.
        mlflow_run_id: The run.
        name: Of the tag.
        timeout: Seconds to wait for an answer.

    Raises:
        TrackingError: it does not tell; MLflow's own client may be let in where this is not.
    """
    import requests

    settings, _ = _http_settings()
    address = f"{uri.rstrip('/')}/api/2.0/mlflow/runs/get"
    try:
        with requests.get(address, params={"run_id": mlflow_run_id}, timeout=timeout, **settings) as response:
            response.raise_for_status()
            tags = response.json()["run"]["data"].get("tags", [])
    except (requests.exceptions.RequestException, OSError, ValueError, KeyError) as error:
        raise trouble.explain(error, uri) from None
    return next((str(tag["value"]) for tag in tags if tag["key"] == name), None)


def _http_settings() -> tuple[dict[str, Any], bool]:
    """What MLflow's client would send, by its own variables; and whether that is all that it would send."""
    environ = os.environ
    settings: dict[str, Any] = {}
    user, password = environ.get("MLFLOW_TRACKING_USERNAME"), environ.get("MLFLOW_TRACKING_PASSWORD")
    if not (user and password):
        stored = _stored_credentials()
        user, password = user or stored.get("user"), password or stored.get("password")
    if user and password:
        settings["auth"] = (user.encode(), password.encode())
    elif environ.get("MLFLOW_TRACKING_TOKEN"):
        settings["headers"] = {"Authorization": f"Bearer {environ['MLFLOW_TRACKING_TOKEN']}"}
    if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        settings["verify"] = False
    elif environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"):
        settings["verify"] = environ["MLFLOW_TRACKING_SERVER_CERT_PATH"]
    if environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH"):
        settings["cert"] = environ["MLFLOW_TRACKING_CLIENT_CERT_PATH"]
    # Plugins sign requests in ways that only MLflow's client knows.
    certain = not (environ.get("MLFLOW_TRACKING_AUTH") or environ.get("MLFLOW_TRACKING_AWS_SIGV4"))
    return settings, certain


def _stored_credentials() -> dict[str, str]:
    import configparser

    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(Path("~/.mlflow/credentials").expanduser())
    except (configparser.Error, OSError, RuntimeError, UnicodeDecodeError):
        return {}
    return {
        "user": parser.get("mlflow", "mlflow_tracking_username", fallback=""),
        "password": parser.get("mlflow", "mlflow_tracking_password", fallback=""),
    }


def _check_sqlite(uri: str, path: Path, timeout: float) -> None:
    _check_room(path.parent)
    if path.is_dir():
        raise TrackingError(f"MLflow's database {path} is a directory.", hint="Name a file in it.")
    if not path.exists():
        return
    try:
        connection = sqlite3.connect(
            f"file:{quote(str(path))}?mode=rw", uri=True, timeout=timeout, isolation_level=None
        )
        try:
            connection.execute("BEGIN IMMEDIATE")  # a reader would not notice a lock or a missing right to write
            connection.execute("SELECT name FROM sqlite_master LIMIT 1").fetchall()
            connection.execute("ROLLBACK")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise trouble.explain(error, uri) from None


def _check_room(directory: Path) -> None:
    existing = directory
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise TrackingError(
            f"MLflow's files cannot be written to {directory}.",
            hint="Set MLFLOW_TRACKING_URI, or JUPYTER_MLOPS_DATA_DIR to a directory that you may write to.",
        )


def ui_command(uri: str, port: int) -> list[str]:
    """The command that shows a store without a server in a browser, on this machine only, until it is ended.

    Args:
        uri: The store's address.
        port: On 127.0.0.1.

    Raises:
        TrackingError: it is a server already, or no address.
    """
    if is_server(uri):
        raise TrackingError("MLflow is a server with a page of its own.", hint=f"Open {shown(uri)}")
    uri = absolute_uri(uri)
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    path = sqlite_path(uri)
    if path is not None:
        command += ["--default-artifact-root", artifact_root(path).as_uri()]
    return [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
