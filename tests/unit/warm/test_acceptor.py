from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import UsageError
from jupyter_mlops.warm.acceptor import Acceptor, _lines_from


async def _unscaled(_workers: int) -> None:
    """No workers to change."""


@pytest.fixture
def acceptor() -> Acceptor:
    return Acceptor(MLOps(), {}, state=dict, scale=_unscaled)


def test_only_whole_lines_are_told(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert _lines_from(path, 0) == b""
    path.write_bytes(b'{"a": 1}\n{"b": ')
    assert _lines_from(path, 0) == b'{"a": 1}\n'
    assert _lines_from(path, 9) == b""
    path.write_bytes(b'{"a": 1}\n{"b": 2}\n')
    assert _lines_from(path, 9) == b'{"b": 2}\n'
    assert _lines_from(path, -5) == b""
    assert _lines_from(path, 1000) == b""


def test_a_run_that_was_never_taken_in_is_unknown(acceptor: Acceptor) -> None:
    assert asyncio.run(acceptor.events("../../etc", 0, 0.0)) == {"unknown": True}
    assert asyncio.run(acceptor.files("../../etc")) == []
    with pytest.raises(UsageError, match="no file"):
        asyncio.run(acceptor.read("../../etc", "passwd", 0))


@pytest.mark.parametrize("spec", ["", "{}", '{"run_id": "../up"}', "[1]"])
def test_what_is_no_spec_is_refused(acceptor: Acceptor, spec: str) -> None:
    with pytest.raises(UsageError, match="cannot read this run"):
        asyncio.run(acceptor.submit(spec))


@pytest.mark.parametrize("upload", ["", "../../x", "ABCDEF0123456789", "a" * 65])
def test_an_upload_has_no_path_in_its_name(acceptor: Acceptor, upload: str) -> None:
    with pytest.raises(UsageError, match="names no upload"):
        asyncio.run(acceptor.put(upload, 0, b"x", False))


def test_a_block_that_is_missing_is_noticed(acceptor: Acceptor) -> None:
    asyncio.run(acceptor.put("a" * 24, 0, b"xx", False))
    with pytest.raises(UsageError, match="missing"):
        asyncio.run(acceptor.put("a" * 24, 3, b"x", False))
