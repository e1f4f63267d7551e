"""The build context and the arguments of an image, and what a person may write."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.errors import UsageError
from jupyter_mlops.image.lock import contents_of
from jupyter_mlops.image.plan import (
    DOCKERFILE,
    SETTABLE,
    Base,
    build_arguments,
    context_files,
    given_arguments,
    image_name,
    pushable,
    repository,
    shown_command,
    write_context,
)
from jupyter_mlops.image.projects import Wheel

from .environments import WHOLE, environment, package, product

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    "name", ["train:1", "localhost/train:1", "registry.example.org:5000/team/train:2025-11.rc_1", "a/b-c/d:x"]
)
def test_names_with_a_tag_are_taken(name: str) -> None:
    assert image_name(name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("train", "has no tag"),
        ("registry.example.org:5000/train", "has no tag"),
        (f"train:1@{DIGEST}", "has no tag"),
        ("Train:1", "no image"),
        ("train:1 --privileged", "no image"),
        ("-t", "no image"),
        ("--file=/etc/passwd", "no image"),
        ("train:1\n", "no image"),
        ("$(reboot):1", "no image"),
        ("", "no image"),
        ("a" * 600 + ":1", "at most 500"),
    ],
)
def test_other_names_are_refused(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        image_name(name)


@given(st.text(max_size=40))
def test_no_name_that_is_taken_can_be_an_option_or_break_a_line(name: str) -> None:
    try:
        taken = image_name(name, tagged=False)
    except UsageError:
        return
    assert not taken.startswith("-")
    assert shlex.quote(taken) == taken


@pytest.mark.parametrize("name", ["train:1", "team/train:1"])
def test_a_push_without_a_registry_is_refused_because_it_would_go_to_a_public_one(name: str) -> None:
    with pytest.raises(UsageError, match="names no registry") as refused:
        pushable(name)
    assert "registry.example.org/team/train:1" in refused.value.hint


@pytest.mark.parametrize("name", ["localhost/x:1", "localhost:5000/x:1", "r.example.org/x:1", "docker.io/me/x:1"])
def test_a_push_with_a_registry_is_taken(name: str) -> None:
    assert pushable(name) == name


@pytest.mark.parametrize(
    ("name", "bare"),
    [("a/b:1", "a/b"), ("r:5000/b", "r:5000/b"), ("r:5000/b:1", "r:5000/b"), (f"r/b:1@{DIGEST}", "r/b"), ("b", "b")],
)
def test_the_repository_is_the_name_without_tag_and_digest(name: str, bare: str) -> None:
    assert repository(name) == bare


def test_a_base_is_built_on_by_its_digest() -> None:
    assert Base("docker.io/library/python:3.11-slim", DIGEST).reference == f"docker.io/library/python@{DIGEST}"
    assert Base("localhost/mine:1").reference == "localhost/mine:1"


def test_build_arguments_arrive_as_they_are() -> None:
    given = given_arguments(["APT_PACKAGES=libgomp1 libgl1", "PIP_TRUSTED_HOST=a=b", "https_proxy="])
    assert given == {"APT_PACKAGES": "libgomp1 libgl1", "PIP_TRUSTED_HOST": "a=b", "https_proxy": ""}


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("APT_PACKAGES", "no NAME=VALUE"),
        ("=x", "no NAME=VALUE"),
        ("APT_PACKAGE=x", "There is no build argument"),
        ("BASE=x", "--base"),
        ("MLFLOW_VERSION=1", "There is no build argument"),
        ("APT_PACKAGES=a;reboot", "no name of a Debian package"),
        ("APT_PACKAGES=-o=Dir::Etc=x", "no name of a Debian package"),
        ("APT_BUILD_PACKAGES=$(id)", "no name of a Debian package"),
        ("PIP_INDEX_URL=https://me:hush@pypi.example.org/simple", "holds credentials"),
        ("PIP_EXTRA_INDEX_URL=https://a.example.org https://t@b.example.org", "holds credentials"),
        ("PIP_TRUSTED_HOST=a\nb", "more than one line"),
    ],
)
def test_build_arguments_that_do_harm_or_nothing_are_refused(item: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as refused:
        given_arguments([item])
    assert "hush" not in str(refused.value) + refused.value.hint


def test_every_argument_is_one_that_the_dockerfile_has() -> None:
    declared = set(re.findall(r"^ARG (\w+)", DOCKERFILE.read_text(), re.MULTILINE))
    packages = (*WHOLE, package("lightgbm"), package("ours", source="vcs"))
    made = build_arguments(contents_of(environment(*packages), product=product()), Base("b:1"), {})
    assert set(made) | set(SETTABLE[:6]) == declared


def test_the_arguments_tell_the_versions_and_what_the_image_is_made_from() -> None:
    contents = contents_of(environment(*WHOLE), product=product(), gpu=True)
    made = build_arguments(contents, Base("python:3.11", DIGEST), {"APT_PACKAGES": "tini"})
    assert made["BASE"] == f"python@{DIGEST}"
    assert (made["BASE_NAME"], made["BASE_DIGEST"]) == ("python:3.11", DIGEST)
    assert (made["VARIANT"], made["PYTHON_VERSION"], made["PIP_OPTIONS"]) == ("gpu", "3.11", "--no-deps")
    assert (made["DASK_VERSION"], made["MLFLOW_VERSION"]) == ("2025.9.0", "3.6.1")
    assert made["LOCK_DIGEST"] == f"sha256:{contents.digest}"
    assert made["APT_PACKAGES"] == "tini"


def test_packages_of_the_person_are_added_to_those_that_wheels_need() -> None:
    contents = contents_of(environment(*WHOLE, package("lightgbm")), product=product())
    made = build_arguments(contents, Base("b:1"), {"APT_PACKAGES": "tini libgomp1"})
    assert made["APT_PACKAGES"] == "libgomp1 tini"


def test_pip_looks_for_more_where_the_lock_is_of_another_system() -> None:
    contents = contents_of(environment(*WHOLE, platform="win-amd64"), product=product())
    assert build_arguments(contents, Base("b:1"), {})["PIP_OPTIONS"] == ""


def test_the_context_has_the_lock_the_additions_and_the_wheels(tmp_path: Path) -> None:
    wheel = tmp_path / "ours-2.0-py3-none-any.whl"
    wheel.write_bytes(b"PK")
    contents = contents_of(environment(package("numpy"), package("ours", source="local")), product=product())
    files = context_files(contents, [Wheel("ours", "2.0", wheel)])
    write_context(files, tmp_path / "context")
    found = {
        path.relative_to(tmp_path / "context").as_posix(): path.read_bytes()
        for path in (tmp_path / "context").rglob("*")
        if path.is_file()
    }
    assert found == {
        "Dockerfile": DOCKERFILE.read_bytes(),
        "requirements.txt": b"numpy==1.0\njupyter-mlops==0.3.0\n",
        "additions.txt": b"cloudpickle==3.1.1\ndask[distributed]==2025.9.1\nmlflow==3.6.0\n",
        "wheels/wheels.txt": b"./ours-2.0-py3-none-any.whl\n",
        "wheels/ours-2.0-py3-none-any.whl": b"PK",
    }


def test_a_context_without_wheels_has_their_list_for_the_dockerfile_to_copy(tmp_path: Path) -> None:
    write_context(context_files(contents_of(environment(*WHOLE), product=product()), []), tmp_path)
    assert (tmp_path / "wheels" / "wheels.txt").read_bytes() == b""


def test_a_command_is_shown_so_that_a_shell_takes_it_and_without_passwords() -> None:
    command = ["docker", "build", "--build-arg=APT_PACKAGES=a b", "--build-arg=HTTPS_PROXY=http://me:hush@proxy:3128"]
    shown = shown_command(command)
    assert "hush" not in shown
    assert shlex.split(shown) == [*command[:3], "--build-arg=HTTPS_PROXY=http://***@proxy:3128"]
