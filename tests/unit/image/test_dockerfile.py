"""The Dockerfile: checked by hadolint, with a reason for each exception; what only a text can promise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from jupyter_mlops.image.plan import DOCKERFILE

TEXT = DOCKERFILE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def hadolint() -> str:
    beside = Path(sys.executable).parent / "hadolint"
    found = str(beside) if beside.is_file() else shutil.which("hadolint")
    if found is None:
        missing = "hadolint is not installed: make venv"
        if os.environ.get("CI"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return found


def lint(hadolint: str, *options: str) -> list[str]:
    done = subprocess.run([hadolint, "--no-color", *options, str(DOCKERFILE)], capture_output=True, text=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_hadolint_finds_nothing(hadolint: str) -> None:
    assert lint(hadolint) == []


def test_each_exception_is_needed_and_explained(hadolint: str) -> None:
    ignored = set(
        re.findall(r"\b(?:DL|SC)\d{4}\b", " ".join(re.findall(r"^# hadolint ignore=(.+)$", TEXT, re.MULTILINE)))
    )
    found = {
        code for line in lint(hadolint, "--disable-ignore-pragma") for code in re.findall(r"\b(?:DL|SC)\d{4}\b", line)
    }
    assert ignored == found
    for code in ignored:
        assert re.search(rf"^# (?:.*\b)?{code}[:,]", TEXT, re.MULTILINE), f"{code} is ignored without a reason"


def test_it_ships_with_the_package() -> None:
    assert files("jupyter_mlops.image").joinpath("Dockerfile").read_text(encoding="utf-8") == TEXT


def test_the_user_is_a_number_and_not_root() -> None:
    users = re.findall(r"^USER (\S+)", TEXT.rpartition("\nFROM ")[2], re.MULTILINE)
    assert users == ["65532:65532"]


def test_certificates_and_pips_configuration_are_secrets_of_one_step_and_never_copied() -> None:
    assert "id=pip.conf" in TEXT
    assert "id=certificates.pem" in TEXT
    for copied in re.findall(r"^COPY (?:--from=\S+ )?(.+)$", TEXT, re.MULTILINE):
        assert "secrets" not in copied
    # What tells where packages come from is an argument of a stage that is thrown away.
    assert "PIP_" not in TEXT.rpartition("\nFROM ")[2]
    assert not re.search(r"^ENV .*(PIP_|SSL)", TEXT, re.MULTILINE)
