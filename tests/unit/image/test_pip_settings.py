"""Where the machine's pip looks, as the build is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.image.pip_settings import pip_settings, read_pip_settings

if TYPE_CHECKING:
    import pytest


def test_nothing_set_is_nothing_told() -> None:
    found = pip_settings("", {})
    assert (found.config, found.certificates, found.notes) == ("", None, ())
    assert found.secrets() == {}


def test_what_says_where_from_is_taken_and_what_is_of_the_machine_is_not() -> None:
    listed = """
global.index-url='https://me:hush@pypi.example.org/simple'
global.cache-dir='/home/me/.cache'
global.extra-index-url='https://a.example.org\\nhttps://b.example.org'
install.user='true'
:env:.timeout='180'
"""
    assert pip_settings(listed, {}).config == (
        "[global]\nindex-url =\n    https://me:hush@pypi.example.org/simple\n"
        "extra-index-url =\n    https://a.example.org\n    https://b.example.org\ntimeout =\n    180\n"
    )


def test_variables_win_over_the_install_section_and_that_over_the_global_one() -> None:
    listed = ":env:.index-url='https://c'\nglobal.index-url='https://a'\ninstall.index-url='https://b'\n"
    assert "https://c" in pip_settings(listed, {}).config
    assert "https://b" in pip_settings(listed.partition("\n")[2], {}).config


def test_wheels_of_this_machine_are_told_to_stay_behind() -> None:
    found = pip_settings("global.find-links='/opt/wheels https://x.example.org/wheels'", {})
    assert found.config == "[global]\nfind-links =\n    https://x.example.org/wheels\n"
    assert found.notes == ("pip's find-links /opt/wheels is on this machine only: the build does not see it.",)


def test_the_bundle_of_certificates_is_pips_own_or_that_of_a_variable(tmp_path: Path) -> None:
    bundle, other = tmp_path / "bundle.pem", tmp_path / "other.pem"
    bundle.write_text("b")
    other.write_text("o")
    assert pip_settings(f"global.cert={str(bundle)!r}", {"REQUESTS_CA_BUNDLE": str(other)}).certificates == bundle
    assert pip_settings("", {"REQUESTS_CA_BUNDLE": str(other)}).secrets() == {"certificates.pem": other}
    assert pip_settings("global.cert='/gone.pem'", {}).certificates is None


@given(st.text(max_size=60))
def test_no_listing_is_too_strange(listed: str) -> None:
    pip_settings(listed, {})


def test_pip_reads_what_is_written_as_it_was_set(tmp_path: Path) -> None:
    addresses = ["https://me:p%40ss%@a.example.org/simple", "https://b.example.org/#x"]
    found = pip_settings(f"global.extra-index-url={chr(10).join(addresses)!r}", {})
    file = tmp_path / "pip.conf"
    file.write_text(found.config)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env={"PIP_CONFIG_FILE": str(file)},
        capture_output=True,
        text=True,
    )
    assert repr("\n" + "\n".join(addresses)) in done.stdout


def test_this_machines_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://pypi.example.org/simple")
    assert "index-url =\n    https://pypi.example.org/simple" in read_pip_settings().config
