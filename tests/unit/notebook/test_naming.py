"""What cells, paths and messages are called in front of people, whatever is in them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_mlops.notebook.naming import cell_digest, cell_title, shown_text


@pytest.mark.parametrize(
    ("source", "title"),
    [
        ("", ""),
        ("\n \n", ""),
        ("# Load the data\nx = 1", "Load the data"),
        ("## Train", "Train"),
        ("#%% Train", "Train"),
        ("# %% Train", "Train"),
        ("#!/usr/bin/env python\nx = 1", "x = 1"),
        ("########\n# Title\n########", "Title"),
        ("# ---\nx = 1", "x = 1"),
        ("%%time\nfit(model)", "fit(model)"),
        ("%matplotlib inline\nimport numpy as np\nfit()", "fit()"),
        ("import numpy as np\nimport pandas", "import numpy as np"),
        ("%load_ext mlops", "%load_ext mlops"),
        ("!pip install x", "!pip install x"),
        ("from a import b\nx = b()", "x = b()"),
        ("importance = 1", "importance = 1"),
        ("@jit\ndef f(): pass", "def f(): pass"),
        ('"""\nWhat it does\n"""', "What it does"),
        ("    x\t=  1", "x = 1"),
        ("a\x1b[31mb\u202e\u200bc", "a[31mbc"),
        ("é = '😀'", "é = '😀'"),
        ("x" * 200, "x" * 79 + "…"),
        (")", ""),
    ],
)
def test_a_title_is_the_first_telling_line(source: str, title: str) -> None:
    assert cell_title(source) == title


@given(st.text())
def test_a_title_is_one_short_printable_line(source: str) -> None:
    title = cell_title(source)
    assert len(title) <= 80
    assert title.splitlines() in ([], [title])
    assert title == title.strip()
    assert not any(ord(character) < 32 or 0xD800 <= ord(character) <= 0xDFFF for character in title)


@given(st.text())
def test_shown_text_is_one_line(text: str) -> None:
    assert len(shown_text(text).splitlines()) <= 1
    assert len(shown_text(text)) <= 200


def test_a_digest_is_short_stable_and_of_the_source() -> None:
    assert cell_digest("x = 1") == "8ff436def1451285"  # sha256sum's
    assert cell_digest("x = 1") != cell_digest("x = 2")
    assert cell_digest("\ud83d") == cell_digest("\ud83d")


def test_a_title_of_a_cell_of_any_size_takes_no_time() -> None:
    for source in ("#" * 2_000_000, "( " * 1_000_000, " " * 2_000_000 + "x", "\n" * 1_000_000, "#!" * 1_000_000):
        assert len(cell_title(source)) <= 80


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\tc", "a b c"),
        ("a\x1b[31mb", "a[31mb"),
        ("user\u202egnp.exe", "usergnp.exe"),
        ("a\u200bb\ufeff", "ab"),
        ("a\ud83db", "ab"),
        ("a\0b", "ab"),
        ("a\u2028b", "a b"),
        ("<b>'\"&", "<b>'\"&"),
        ("naïve 😀", "naïve 😀"),
        ("x" * 201, "x" * 199 + "…"),
    ],
)
def test_what_anyone_wrote_is_shown_on_one_line_with_nothing_invisible(text: str, shown: str) -> None:
    assert shown_text(text) == shown


@settings(deadline=None)
@given(st.text(st.characters()))
def test_nothing_that_is_shown_can_steer_a_terminal_or_break_an_encoder(text: str) -> None:
    shown = shown_text(text)
    assert not any(unicodedata.category(character)[0] == "C" for character in shown)
    shown.encode("utf-8")
