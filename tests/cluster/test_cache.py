"""What takes minutes to build is built once, and is whole or not there."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from . import cache
from .cache import ClusterError, Recipe

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
# A process that is killed in the middle of a build, as by an impatient person.
KILLED = """
import os, signal
from tests.cluster import cache
def build(directory):
    (directory / "half").write_text("")
    os.kill(os.getpid(), signal.SIGKILL)
cache.ensure(cache.Recipe("Half", "thing", "one", "a moment", build))
"""


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "cache"
    folder = root / "jupyter-mlops" / "cluster"
    monkeypatch.setattr(cache, "CACHE", folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(root))
    return folder


def _recipe(key: str, built: list[str]) -> Recipe:
    def build(directory: Path) -> None:
        built.append(key)
        (directory / "whole").write_text(key)

    return Recipe("A thing", "thing", key, "a moment", build)


def test_a_thing_is_built_once_also_when_many_ask_at_once() -> None:
    built: list[str] = []
    threads = [threading.Thread(target=cache.ensure, args=[_recipe("one", built)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == ["one"]
    assert (cache.ensure(_recipe("one", built)) / "whole").read_text() == "one"


def test_a_build_that_was_killed_leaves_nothing_that_is_taken_for_whole(empty_cache: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=ROOT, capture_output=True, timeout=120)
    assert killed.returncode < 0
    assert [*empty_cache.rglob("half")], "it was killed in the middle"
    done = cache.ensure(_recipe("one", []))
    assert [path.name for path in done.iterdir()] == ["whole"]
    assert [path.name for path in done.parent.iterdir()] == ["one"]


def test_a_build_that_fails_is_tried_again(empty_cache: Path) -> None:
    def fail(directory: Path) -> None:
        cache.run(["sh", "-c", "echo the compiler is missing; exit 7"])

    with pytest.raises(ClusterError, match=r"(?s)exit status 7.*the compiler is missing"):
        cache.ensure(Recipe("A thing", "thing", "one", "a moment", fail))
    assert [*(empty_cache / "thing").iterdir()] == []
    assert cache.ensure(_recipe("one", [])).is_dir()


def test_what_was_not_used_for_longest_makes_room_for_the_new() -> None:
    for key in ("one", "two", "three"):
        folder = cache.ensure(_recipe(key, [])).parent
    cache.ensure(_recipe("one", []))
    cache.ensure(_recipe("four", []))
    assert sorted(path.name for path in folder.iterdir()) == ["four", "one", "three"]
