from __future__ import annotations

import json
import sys
import venv
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.snapshot.environment import environment_of, read_environment

if TYPE_CHECKING:
    from pathlib import Path


def facts(*distributions: dict[str, Any]) -> dict[str, Any]:
    usual = {"version": "1.0", "direct_url": None, "installer": "", "in_source_tree": False}
    return {
        "python": "3.11.0",
        "implementation": "CPython",
        "platform": "linux-x86_64",
        "distributions": [{**usual, **fact} for fact in distributions],
    }


def lock_line(**fact: Any) -> str:
    environment, _ = environment_of(facts(fact))
    return environment.lock.splitlines()[1]


def direct(**fields: Any) -> str:
    return json.dumps(fields)


def test_the_lock_is_sorted_normalised_and_without_doubles() -> None:
    environment, warnings = environment_of(
        facts({"name": "Zope.Interface"}, {"name": "a_b"}, {"name": "A.B", "version": "2"})
    )
    assert environment.lock == "# CPython 3.11.0 on linux-x86_64\na-b==1.0\nzope-interface==1.0\n"
    assert warnings == []


@pytest.mark.parametrize(
    ("url", "line"),
    [
        (direct(url="https://u:p@host/o/x.git", vcs_info={"vcs": "git", "commit_id": "abc"}),
         "x @ git+https://host/o/x.git@abc"),
        (direct(url="ssh://git@host/o/x.git", vcs_info={"vcs": "git", "commit_id": "abc"}, subdirectory="py"),
         "x @ git+ssh://git@host/o/x.git@abc#subdirectory=py"),
        (direct(url="https://host/x-1.0.whl", archive_info={"hashes": {"sha256": "ff"}}),
         "x @ https://host/x-1.0.whl#sha256=ff"),
        (direct(url="https://host/x-1.0.whl?sig=secret", archive_info={"hash": "sha256=ee"}),
         "x @ https://host/x-1.0.whl#sha256=ee"),
        (direct(url="https://${USER}:${PASS}@host/x-1.0.tar.gz", archive_info={}), "x @ https://host/x-1.0.tar.gz"),
        ("not json", "x==1.0"),
        ("[]", "x==1.0"),
        (direct(url=3), "x==1.0"),
    ],
)  # fmt: skip
def test_what_was_installed_from_a_url_is_locked_by_it(url: str, line: str) -> None:
    assert lock_line(name="x", direct_url=url) == line


@pytest.mark.parametrize(
    "fact",
    [
        {"direct_url": direct(url="file:///home/me/x", dir_info={"editable": True})},
        {"direct_url": direct(url="file:///home/me/x-1.0.whl", archive_info={})},
        {"in_source_tree": True},
    ],
)
def test_a_local_package_becomes_a_comment_without_its_place_and_a_warning(fact: dict[str, Any]) -> None:
    environment, warnings = environment_of(facts({"name": "x", **fact}))
    line = environment.lock.splitlines()[1]
    assert line.startswith("# x==1.0")
    assert "/home" not in line
    assert any("x" in warning and "local directory" in warning for warning in warnings)


def test_a_conda_package_is_no_local_one() -> None:
    url = direct(url="file:///croot/numpy_1/work", dir_info={})
    assert lock_line(name="numpy", direct_url=url, installer="conda") == "numpy==1.0"


@given(st.text(), st.text())
def test_hostile_metadata_adds_no_line_and_no_option_to_the_lock(name: str, version: str) -> None:
    environment, _ = environment_of(facts({"name": name, "version": version}))
    lines = environment.lock.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("#") or lines[1][0].isalnum()


@given(st.text(alphabet="abc:@/ $?#%", max_size=6), st.sampled_from(["vcs_info", "archive_info"]))
def test_no_password_of_an_address_is_in_the_lock(noise: str, kind: str) -> None:
    url = f"https://user:SECRET{noise}@host.example/x.whl?token=SECRET"
    assert "SECRET" not in lock_line(name="x", direct_url=direct(url=url, **{kind: {"vcs": "git"}}))


def test_this_interpreter_is_read() -> None:
    environment, _ = read_environment()
    assert environment.python == ".".join(map(str, sys.version_info[:3]))
    names = [dist.name for dist in environment.distributions]
    assert names == sorted(set(names))
    assert "pydantic" in names
    assert "jupyter-mlops" in names


def test_the_lock_is_one_that_pip_reads(tmp_path: Path) -> None:
    from packaging.requirements import Requirement

    environment, _ = read_environment()
    for line in environment.lock.splitlines():
        if not line.startswith("#"):
            Requirement(line)


def test_the_kernels_own_environment_is_asked(tmp_path: Path) -> None:
    venv.create(tmp_path / "other", with_pip=False, symlinks=True)
    python = tmp_path / "other" / "bin" / "python"
    site = next((tmp_path / "other" / "lib").glob("python*/site-packages"))
    info = site / "my_own-4.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: My_Own\nVersion: 4.5\n\nName: decoy\n")
    environment, warnings = read_environment(str(python))
    assert [dist.requirement for dist in environment.distributions] == ["my-own==4.5"]
    assert warnings == []


@pytest.mark.parametrize("script", [None, "exit 3", "echo '{}'", "echo nonsense"])
def test_a_kernel_that_does_not_tell_is_a_warning(script: str | None, tmp_path: Path) -> None:
    python = tmp_path / "python"
    if script is not None:
        python.write_text(f"#!/bin/sh\n{script}\n")
        python.chmod(0o755)
    environment, warnings = read_environment(str(python))
    assert environment.distributions
    assert str(python) in warnings[0]


def test_half_removed_packages_are_passed_over(tmp_path: Path) -> None:
    venv.create(tmp_path / "other", with_pip=False, symlinks=True)
    site = next((tmp_path / "other" / "lib").glob("python*/site-packages"))
    (site / "gone-1.0.dist-info").mkdir()
    binary = site / "binary-1.0.dist-info"
    binary.mkdir()
    (binary / "METADATA").write_bytes(b"\xff\xfe\x00Name: binary\n")
    for number in range(3):
        info = site / f"p{number}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: p{number}\nVersion: 1\n")
    environment, _ = read_environment(str(tmp_path / "other" / "bin" / "python"))
    assert [dist.name for dist in environment.distributions] == ["p0", "p1", "p2"]
