"""What a terminal does with what a cell displayed elsewhere."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from jupyter_mlops.cli.front import TerminalFront

OUTPUTS = [
    {"output_type": "stream", "name": "stdout", "text": "one\n\x1b[2Jtwo\n"},
    {"output_type": "execute_result", "data": {"text/plain": "42", "text/html": "<b>42</b>"}},
    {"output_type": "error", "ename": "E", "evalue": "x", "traceback": ["E"]},
]


@pytest.mark.parametrize(("live", "shown"), [(True, "one\n␛[2Jtwo\n42\n"), (False, "")])
def test_a_live_view_is_followed_by_the_outputs_and_a_log_has_had_them(
    live: bool, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    front = TerminalFront()
    vars(front)["console"] = Console(file=io.StringIO(), force_terminal=live)
    front.outputs(OUTPUTS)
    assert capsys.readouterr().out == shown


def test_a_terminal_has_no_session_and_shows_no_figures() -> None:
    front = TerminalFront()
    assert front.namespace() == {}
    assert front.figure(lambda: pytest.fail("it is not made")) is False
