"""Packages that are in no index: found, and made into wheels."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from jupyter_mlops.errors import ImageError, UsageError
from jupyter_mlops.image import projects
from jupyter_mlops.image.projects import Project, find_projects, make_wheels, source_path
from jupyter_mlops.snapshot.environment import read_environment

from .environments import package

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "our-lib"
version = "2.0"
"""

# A build backend of its own, so that the test needs no index: PEP 517 asks for these two functions.
BACKEND = """
import zipfile

def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "our_lib-2.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.writestr("our_lib.py", "x = 1")
        wheel.writestr("our_lib-2.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: our-lib\\nVersion: 2.0\\n")
        wheel.writestr("our_lib-2.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr("our_lib-2.0.dist-info/RECORD", "")
    return name
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "our lib"
    directory.mkdir()
    (directory / "pyproject.toml").write_text(PYPROJECT)
    (directory / "backend.py").write_text(BACKEND)
    return directory


def test_a_directory_and_an_archive_are_found_by_their_address(project: Path, tmp_path: Path) -> None:
    direct = json.dumps({"url": project.as_uri(), "dir_info": {"editable": True}})
    assert source_path(direct, tmp_path) == project
    wheel = tmp_path / "w.whl"
    wheel.touch()
    assert source_path(json.dumps({"url": wheel.as_uri(), "archive_info": {}}), tmp_path) == wheel


def test_a_source_tree_on_the_path_is_found_without_one(project: Path) -> None:
    assert source_path(None, project) == project
    assert source_path(None, project.parent) is None


@pytest.mark.parametrize(
    "direct",
    ["", "[]", "{}", '{"url": 1}', '{"url": "file:///gone/away"}', '{"url": "file://host/share"}',
     '{"url": "file:///"}', '{"url": "https://example.org/x.whl"}', '{"url": "file:relative"}'],
)  # fmt: skip
def test_what_is_not_on_this_machine_is_not_found(direct: str, tmp_path: Path) -> None:
    assert source_path(direct, tmp_path) is None


def test_the_product_is_found_where_it_is_developed() -> None:
    (ours,) = [dist for dist in read_environment()[0].distributions if dist.name == "jupyter-mlops"]
    if ours.source != "local":
        pytest.skip("jupyter-mlops is installed from an index here")
    (found,) = find_projects([ours])
    assert (found.path / "pyproject.toml").is_file()


def test_a_package_that_is_not_here_is_refused_by_name_with_two_ways_out() -> None:
    with pytest.raises(UsageError, match=r"The package no-such-thing 1\.0 .* it is not installed") as refused:
        find_projects([package("no-such-thing", source="local")])
    assert "--without no-such-thing" in refused.value.hint


def test_a_project_becomes_a_wheel_with_what_it_holds_now(project: Path, tmp_path: Path) -> None:
    told: list[str] = []
    (wheel,) = make_wheels([Project("our-lib", "1.9", project)], tmp_path / "wheels", told.append)
    assert (wheel.name, wheel.version) == ("our-lib", "2.0")
    with zipfile.ZipFile(wheel.path) as archive:
        assert "our_lib.py" in archive.namelist()
    assert told == [f"our-lib is 1.9 in the environment and 2.0 in {project} now."]


def test_a_wheel_is_taken_as_it_is(tmp_path: Path) -> None:
    built = tmp_path / "our_lib-2.0-py3-none-any.whl"
    built.write_bytes(b"PK")
    (wheel,) = make_wheels([Project("our-lib", "2.0", built)], tmp_path / "wheels", print)
    assert wheel.path.read_bytes() == b"PK"
    assert wheel.path != built


def test_a_project_that_cannot_be_built_is_named_with_the_reason(project: Path, tmp_path: Path) -> None:
    (project / "backend.py").write_text("raise RuntimeError('the glue is dry')")
    with pytest.raises(ImageError, match="No wheel of our-lib could be made") as failed:
        make_wheels([Project("our-lib", "2.0", project)], tmp_path / "wheels", print)
    assert "the glue is dry" in failed.value.message
    assert "--without our-lib" in failed.value.hint


def test_without_pip_and_uv_the_person_reads_what_to_install(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projects, "_commands", lambda *_: [])
    with pytest.raises(ImageError, match="neither pip nor uv is here") as failed:
        make_wheels([Project("jupyter-mlops", "2.0", project)], tmp_path / "wheels", print)
    assert "ensurepip" in failed.value.hint
    assert "--without" not in failed.value.hint, "no image works without the product"


def test_a_project_that_makes_something_else_is_refused(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No wheel of another came out"):
        make_wheels([Project("another", "2.0", project)], tmp_path / "wheels", print)
