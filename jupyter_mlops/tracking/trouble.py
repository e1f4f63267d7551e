"""Turns what went wrong between us and MLflow into one sentence and a next step. Pure: text in, error out."""

from __future__ import annotations

import re

from ..errors import TrackingError
from .address import is_server, scrub, shown, sqlite_path

_STATUS = re.compile(r"error code (\d{3})\b|(\d{3}) (?:Client|Server) Error|too many (\d{3}) error responses")
_SCHEMA = re.compile(r"found version (\w+), but expected (\w+)|Can't locate revision identified by '(\w+)'")
_AWAY = re.compile(
    "Max retries exceeded|Connection refused|Failed to establish|Connection aborted|RemoteDisconnected|"
    "NameResolutionError|Failed to resolve|timed out|timeout|Connection reset|could not connect|"
    "server closed the connection"
)
_REFUSED_CODES = ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED")
_CREDENTIALS_HINT = (
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN), "
    "and ask for the right to write if you have them."
)


def explain(  # noqa: PLR0911 - a table of cases, the first match wins
    error: BaseException, uri: str, *, waited: float | None = None
) -> TrackingError:
    """The error for the person.

    Args:
        error: What MLflow, its HTTP library, its database or the file system raised.
        uri: MLflow's address; it is shown without credentials.
        waited: Seconds that were waited before giving up, where that is why.
    """
    if isinstance(error, TrackingError):
        return error
    text = scrub(f"{error}")
    name = f"MLflow at {shown(uri)}"
    if isinstance(error, TimeoutError):
        return slow(uri, waited)
    status = _status(error, text)
    if getattr(error, "error_code", "") in _REFUSED_CODES or status in (401, 403):
        return refused(uri, text)
    database = None if is_server(uri) else _explain_database(text, uri)
    if database is not None:
        return database
    if status in (404, 405) and getattr(error, "error_code", "") != "RESOURCE_DOES_NOT_EXIST":
        return wrong_address(uri)
    if "valid JSON format" in text:
        return wrong_address(uri)
    if status is not None and status >= 500:
        return failing(uri, status)
    if _AWAY.search(text) or isinstance(error, ConnectionError):
        return away(uri)
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        return TrackingError(
            f"{name} cannot be written: {error.strerror}{place}.",
            hint="Free some space, or correct the permissions.",
        )
    return TrackingError(f"{name} did not take it: {_first_line(text) or type(error).__name__}.")


def away(uri: str) -> TrackingError:
    """Nothing answers there."""
    return _passing(
        f"MLflow at {shown(uri)} cannot be reached.",
        "Check the address (MLFLOW_TRACKING_URI), the network and that the server runs; "
        "without MLFLOW_TRACKING_URI a local database is used.",
    )


def slow(uri: str, waited: float | None) -> TrackingError:
    """Something is there, and does not answer in time."""
    within = "in time" if waited is None else f"within {waited:g} s"
    return _passing(
        f"MLflow at {shown(uri)} did not answer {within}.",
        "Try again later, or give it longer with c.MLOps.mlflow_wait.",
    )


def refused(uri: str, text: str = "") -> TrackingError:
    """It wants to know who asks, or does not want this one."""
    if "Invalid Host header" in text:
        return TrackingError(
            f"MLflow at {shown(uri)} does not accept requests under this host name.",
            hint="Its admin has to add the name to the server's --allowed-hosts.",
        )
    return TrackingError(f"MLflow at {shown(uri)} refused the user.", hint=_CREDENTIALS_HINT)


def wrong_address(uri: str) -> TrackingError:
    """Something answers, and it is not MLflow."""
    return TrackingError(
        f"What answers at {shown(uri)} is not MLflow (a web page, a login page or another service).",
        hint="Set MLFLOW_TRACKING_URI to the MLflow server's own address, with its path if it has one.",
    )


def failing(uri: str, status: int) -> TrackingError:
    """It answers that it cannot."""
    return _passing(
        f"MLflow at {shown(uri)} has trouble of its own (HTTP {status}).",
        "Try again later; if it stays, its admin finds the cause in the server's log.",
    )


def untrusted(uri: str) -> TrackingError:
    """Its certificate is not one that this machine trusts."""
    return TrackingError(
        f"MLflow at {shown(uri)} has a certificate that is not trusted here.",
        hint="Set MLFLOW_TRACKING_SERVER_CERT_PATH to your organisation's CA file.",
    )


def _passing(message: str, hint: str) -> TrackingError:
    error = TrackingError(message, hint=hint)
    error.retryable = True
    return error


def _explain_database(text: str, uri: str) -> TrackingError | None:
    path = sqlite_path(uri)
    name = f"MLflow's database {path}" if path is not None else f"MLflow's database at {shown(uri)}"
    lowered = text.lower()
    found = _SCHEMA.search(text)
    if found is not None:
        return _explain_schema(name, found.group(1) or found.group(3), uri)
    if "locked" in lowered:
        return TrackingError(
            f"{name} is locked by another process.",
            hint="Try again; if it stays, find the process that holds it.",
        )
    if "readonly" in lowered or "unable to open" in lowered or "read-only" in lowered:
        return TrackingError(
            f"{name} cannot be written.", hint="Correct the permissions of the file and of its directory."
        )
    if "disk is full" in lowered or "no space left" in lowered:
        return TrackingError(f"{name} cannot be written: the disk is full.", hint="Free some space.")
    if "not a database" in lowered or "malformed" in lowered:
        return TrackingError(
            f"{name} is damaged, or is not an SQLite database.",
            hint="Restore it from a backup, or choose another file.",
        )
    return None


def _explain_schema(name: str, revision: str, uri: str) -> TrackingError:
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("mlflow")
    home = Path(spec.origin).parent if spec is not None and spec.origin else Path()
    if any((home / "store" / "db_migrations" / "versions").glob(f"{revision}_*.py")):
        return TrackingError(
            f"{name} was made by an older MLflow than the one installed here.",
            hint=f"Make a copy of it, then run: mlflow db upgrade {shown(uri)}",
        )
    return TrackingError(
        f"{name} was made by a newer MLflow than the one installed here.",
        hint="Run: pip install --upgrade mlflow",
    )


def _status(error: BaseException, text: str) -> int | None:
    response = getattr(error, "response", None)
    if response is not None and isinstance(getattr(response, "status_code", None), int):
        return int(response.status_code)
    match = _STATUS.search(text)
    return int(next(group for group in match.groups() if group)) if match else None


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300].rstrip(".") if lines else ""
