"""The command lines of buildah, docker and podman, and which of them is taken."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.errors import UsageError
from jupyter_mlops.image.builders import (
    BUILDERS,
    Builder,
    build_command,
    builder_environment,
    digest_command,
    find_builder,
    login_command,
    pull_command,
    push_command,
    size_command,
)

SECRETS = {"pip.conf": PurePosixPath("secrets/pip.conf")}


def build(builder: Builder, **changes: object) -> list[str]:
    values: dict[str, object] = {"tag": "r.example.org/t:1", "arguments": {"BASE": "b:1"}, "secrets": SECRETS}
    return build_command(builder, **{**values, **changes})  # type: ignore[arg-type]


def test_what_each_builder_is_told() -> None:
    for builder in ("buildah", "podman"):
        assert build(builder, id_file="id") == [
            builder, "build", "--file=context/Dockerfile", "--tag=r.example.org/t:1", "--layers",
            "--build-arg=BASE=b:1", "--secret=id=pip.conf,src=secrets/pip.conf", "--iidfile=id", "context",
        ]  # fmt: skip
    assert build("docker") == [
        "docker", "build", "--file=context/Dockerfile", "--tag=r.example.org/t:1", "--progress=plain",
        "--build-arg=BASE=b:1", "--secret=id=pip.conf,src=secrets/pip.conf", "context",
    ]  # fmt: skip


def test_docker_gets_the_proxies_without_their_values() -> None:
    variables = {"HTTPS_PROXY": "http://me:hush@proxy:3128", "NO_PROXY": "", "http_proxy": "http://proxy"}
    command = build("docker", environment=variables, arguments={"http_proxy": "http://other"})
    assert "--build-arg=HTTPS_PROXY" in command
    assert "--build-arg=NO_PROXY" not in command
    assert [word for word in command if "http_proxy" in word] == ["--build-arg=http_proxy=http://other"]
    assert not any("hush" in word for word in command)
    assert not any("PROXY" in word for word in build("podman", environment=variables))


@given(st.sampled_from(BUILDERS), st.text(max_size=30))
def test_an_arguments_value_stays_one_word(builder: Builder, value: str) -> None:
    command = build(builder, arguments={"PIP_INDEX_URL": value})
    assert command.count(f"--build-arg=PIP_INDEX_URL={value}") == 1
    assert len(command) == len(build(builder))


def test_images_are_pulled_asked_about_and_pushed() -> None:
    assert pull_command("podman", "b:1") == ["podman", "pull", "b:1"]
    assert digest_command("buildah", "b:1")[-1] == size_command("docker", "b:1")[-1] == "b:1"
    assert push_command("buildah", "r/t:1", "digest") == ["buildah", "push", "--digestfile=digest", "r/t:1"]
    assert push_command("docker", "r/t:1", "digest") == ["docker", "push", "r/t:1"]
    assert login_command("podman", "r.example.org:5000/team/t:1") == "podman login r.example.org:5000"


def test_an_older_docker_is_told_to_use_the_builder_that_knows_secrets() -> None:
    assert builder_environment("docker", {"A": "b"}) == {"A": "b", "DOCKER_BUILDKIT": "1"}
    assert builder_environment("buildah", {"A": "b"}) == {"A": "b"}


def program(directory: Path, name: str, status: int = 0) -> None:
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(f"#!/bin/sh\nexit {status}\n")
    (directory / name).chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))
    return directory


def test_the_one_that_was_asked_for_is_taken(programs: Path) -> None:
    program(programs, "docker")
    program(programs, "buildah")
    assert find_builder("buildah") == "buildah"
    assert find_builder() == "docker"


def test_a_docker_without_its_daemon_is_passed_over(programs: Path) -> None:
    program(programs, "docker", status=1)
    program(programs, "buildah")
    assert find_builder() == "buildah"


def test_without_any_the_person_reads_what_to_install(programs: Path) -> None:
    with pytest.raises(UsageError, match="Nothing on this machine can build an image") as refused:
        find_builder()
    assert refused.value.code == "no_builder"
    assert "apt-get install buildah" in refused.value.hint
    assert "--write-context" in refused.value.hint
    with pytest.raises(UsageError, match="podman is not installed"):
        find_builder("podman")
    program(programs, "docker", status=1)
    with pytest.raises(UsageError, match="daemon does not answer"):
        find_builder()


def test_a_command_that_is_only_shown_needs_none(programs: Path) -> None:
    assert find_builder("podman", needed=False) == "podman"
    assert find_builder(needed=False) == "docker"
