"""An engine that waits on this machine for the next run: `python -m jupyter_mlops.warm.waiting`.

A run that has ended leaves one behind. It has imported what a run needs and has a kernel that answers, so that the next
run starts its first cell at once; it serves that one run, or goes when none has come for a while. There is at most one
in a data directory, and it is used only by a caller whose environment, interpreter and jupyter-mlops are the same.

Whoever renames its record has it: that happens once. What is written into its pipe then is the run's directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import select
import signal
import site
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..worker import WAITING_VARIABLE, birth_of, leave_one_waiting, supervise
from .spare import READY, print_into

DIRECTORY = "waiting"
RECORD = "engine.json"
_LOG = "engine.log"
_READY_SUFFIX = ".ready"
_LOOK = 1.0
_LAST_CALL = 30.0
"""Seconds that an engine which was taken waits for the word of whoever has taken it."""
_ENDING = 2.0
"""Seconds that an engine has to go when nobody wants it; its kernel goes with it."""
_STALE = 7 * 86400.0
"""Seconds after which what lies beside the record is nobody's: longer than an engine waits."""
_LONGEST_LINE = 8192
_CALLERS_OWN = frozenset({
    "_", "SHLVL", "PWD", "OLDPWD", "COLUMNS", "LINES", "TERM", "TERM_SESSION_ID", "WINDOWID", "JPY_PARENT_PID",
    "JPY_SESSION_NAME", "PYTEST_CURRENT_TEST", WAITING_VARIABLE,
})  # fmt: skip
"""Variables that differ from call to call and mean nothing to a run."""


def hand_over(data: Path, run_dir: Path) -> int | None:
    """Give a run to the engine that waits.

    Args:
        data: The data directory.
        run_dir: The run's directory, with its `spec.json`.

    Returns:
        The process id of the run's supervisor; None: there is no engine, or none that fits, and the run is to be
        started in the ordinary way.
    """
    directory = data / DIRECTORY
    claimed = _claim(directory)
    if claimed is None:
        return None
    try:
        known = _read(claimed)
        if known is None:
            return None
        if known["key"] != key(os.environ):
            _send_away(claimed)
            return None
        return known["pid"] if _tell(directory / str(known["pipe"]), run_dir) else None
    finally:
        with contextlib.suppress(OSError):
            claimed.unlink()


def is_ready(data: Path) -> bool:
    """Whether the engine that waits has everything imported and a kernel that answers.

    Args:
        data: The data directory.
    """
    known = _read(data / DIRECTORY / RECORD)
    return known is not None and (data / DIRECTORY / str(known["pipe"])).with_suffix(_READY_SUFFIX).exists()


def dismiss(data: Path) -> None:
    """Have the engine that waits go.

    Args:
        data: The data directory.
    """
    claimed = _claim(data / DIRECTORY)
    if claimed is not None:
        _send_away(claimed)


def _claim(directory: Path) -> Path | None:
    """Take the record, so that nobody else does; None: there is none."""
    claimed = directory / f"claimed-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        (directory / RECORD).rename(claimed)  # of several that try, one succeeds
    except OSError:
        return None
    return claimed


def _send_away(claimed: Path) -> None:
    """End the engine of a record that was taken: only whoever has it may, or a run could have been handed over."""
    known = _read(claimed)
    if known is not None:
        with contextlib.suppress(OSError):
            os.kill(known["pid"], signal.SIGTERM)
    with contextlib.suppress(OSError):
        claimed.unlink()


def key(environment: Mapping[str, str]) -> str:
    """What has to be the same for a run to find what it would have had without waiting, as a digest."""
    kept = {name: value for name, value in environment.items() if name not in _CALLERS_OWN}
    package = Path(__file__).parents[1]
    newest = max(path.stat().st_mtime_ns for path in package.rglob("*.py"))  # somebody may be working on it
    facts = [sorted(kept.items()), sys.executable, sys.version, str(package), newest, _installed()]
    return hashlib.sha256(json.dumps(facts).encode("utf-8", "surrogateescape")).hexdigest()


def _installed() -> list[tuple[str, int]]:
    """When packages were last installed or removed: those in editable mode are found by a new Python only."""
    found = []
    for directory in (*site.getsitepackages(), site.getusersitepackages()):
        with contextlib.suppress(OSError):
            found.append((directory, Path(directory).stat().st_mtime_ns))
    return found


def main() -> int:
    """Wait for a run and execute it.

    Returns:
        0 when none came, else the status of the worker.
    """
    from ..config import load_config

    config = load_config()
    seconds = config.warm_seconds()
    if not seconds or not hasattr(os, "mkfifo"):
        return 0
    directory = config.data_path / DIRECTORY
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chdir(directory)
    with (directory / _LOG).open("wb") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    _sweep(directory)
    name = secrets.token_hex(8)
    os.environ[WAITING_VARIABLE] = name
    pipe = directory / f"{name}.pipe"
    os.mkfifo(pipe, 0o600)
    try:
        # For reading and writing: else it would be at its end whenever nobody writes.
        word = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        run_dir, engine = _wait(directory, pipe, word, seconds)
        os.close(word)
    finally:
        pipe.unlink(missing_ok=True)
        pipe.with_suffix(_READY_SUFFIX).unlink(missing_ok=True)
    if run_dir is None or engine is None or config.run_dir(run_dir.name) != run_dir:
        return 0
    os.chdir(run_dir)
    print_into(run_dir)
    with contextlib.suppress(OSError):  # an engine that died is found by `supervise`
        assert engine.stdin is not None
        engine.stdin.write(json.dumps(str(run_dir)).encode() + b"\n")
        engine.stdin.flush()
    status = supervise(run_dir, waiting=engine)
    leave_one_waiting()
    return status


def _wait(
    directory: Path, pipe: Path, word: int, seconds: float
) -> tuple[Path | None, subprocess.Popen[bytes] | None]:  # fmt: skip
    """Wait for a run, with an engine that gets ready meanwhile; without a run the engine is ended."""

    def leave(_signal: int, _frame: Any) -> None:
        raise _Dismissed

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, leave)
    engine: subprocess.Popen[bytes] | None = None
    run_dir: Path | None = None
    record = directory / RECORD
    try:
        if not _publish(record, {"pid": os.getpid(), "born": birth_of(os.getpid()), "key": key(os.environ),
                                 "pipe": pipe.name}):  # fmt: skip
            return None, None
        engine = subprocess.Popen(
            [sys.executable, "-m", "jupyter_mlops.warm.spare", "--engine"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        deadline = time.monotonic() + seconds
        withdrawn = False
        assert engine.stdout is not None
        listened: list[Any] = [word, engine.stdout]
        while run_dir is None and engine.poll() is None:
            heard = select.select(listened, [], [], _LOOK)[0]
            if word in heard:
                run_dir = Path(json.loads(os.read(word, _LONGEST_LINE)))
            elif heard:  # its one word
                listened = [word]
                if engine.stdout.readline() == READY:
                    pipe.with_suffix(_READY_SUFFIX).touch()
                engine.stdout.close()
            elif time.monotonic() > deadline:
                if withdrawn or _withdraw(record, pipe.name):
                    break
                # Somebody has taken it in this very moment, and will speak.
                withdrawn, deadline = True, time.monotonic() + _LAST_CALL
    except _Dismissed:
        run_dir = None
    finally:
        if run_dir is None:
            _withdraw(record, pipe.name)
            if engine is not None:
                assert engine.stdin is not None
                with contextlib.suppress(OSError):
                    engine.stdin.close()
                try:
                    engine.wait(_ENDING)
                except subprocess.TimeoutExpired:  # it is not ready yet, and does not listen
                    engine.kill()
                    engine.wait()
    return run_dir, engine


class _Dismissed(BaseException):
    """This process was told to go."""


def _publish(record: Path, content: Mapping[str, object]) -> bool:
    """Say that an engine waits, unless another does."""
    temporary = record.with_name(f".{os.getpid()}")
    temporary.write_text(json.dumps(dict(content)), encoding="utf-8")
    try:
        for _ in range(2):
            try:
                os.link(temporary, record)
            except FileExistsError:
                there = _read(record)
                if there is not None and there["key"] == content["key"]:
                    return False
                dismiss(record.parents[1])  # it waits for callers that are no more, or is gone
            except OSError:  # no hard links on this file system
                return False
            else:
                return True
    finally:
        temporary.unlink()
    return False


def _sweep(directory: Path) -> None:
    """Remove what killed processes have left; what is young may be in use."""
    for pattern in ("*.pipe", "*.ready", "claimed-*", "withdrawn-*"):
        for path in directory.glob(pattern):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_ctime > _STALE:
                    path.unlink()


def _withdraw(record: Path, pipe: str) -> bool:
    """Take the record back; False: it is gone, or it is another's."""
    known = _read(record)
    if known is None or known["pipe"] != pipe:
        return False
    own = record.with_name(f"withdrawn-{os.getpid()}")
    try:
        record.rename(own)
    except OSError:
        return False
    own.unlink()
    return True


def _read(record: Path) -> dict[str, Any] | None:
    """A record whose process lives, or None."""
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
        alive = birth_of(known["pid"]) == known["born"] is not None
        return known if alive and known["key"] and known["pipe"] == Path(known["pipe"]).name else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _tell(pipe: Path, run_dir: Path) -> bool:
    """Write the run's directory into the pipe; False: nobody reads it."""
    try:
        word = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.write(word, json.dumps(str(run_dir)).encode()) > 0
    except OSError:
        return False
    finally:
        os.close(word)


if __name__ == "__main__":
    sys.exit(main())
