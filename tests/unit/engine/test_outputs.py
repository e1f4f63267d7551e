import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat import v4

from jupyter_mlops.engine.outputs import OutputKeeper, apply_carriage_returns
from jupyter_mlops.redact import Redactor


@pytest.fixture
def keeper(tmp_path: Path) -> OutputKeeper:
    made = OutputKeeper(tmp_path / "outputs", cell_limit=1000, total_limit=1500, redactor=Redactor(["hunter2hunter2"]))
    made.start_cell(1)
    return made


def tiny(text: str) -> dict[str, Any]:
    return {"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}


def show(keeper: OutputKeeper, outputs: list[Any], output: dict[str, Any]) -> None:
    """What the engine does with a display."""
    if keeper.is_full:
        keeper.leave_out(output)
    else:
        keeper.display(output)
        outputs.append(output)


def text_of(outputs: list[Any], name: str = "stdout") -> str:
    return "".join(output["text"] for output in outputs if output.get("name") == name)


def test_neighbouring_streams_are_one_output_and_others_keep_their_order(keeper: OutputKeeper) -> None:
    outputs: list[Any] = []
    for name, text in [("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d")]:
        keeper.stream(outputs, name, text)
    assert [(output["name"], output["text"]) for output in outputs] == [
        ("stdout", "ab"),
        ("stderr", "c"),
        ("stdout", "d"),
    ]


def test_a_flood_is_cut_its_end_is_shown_and_the_whole_lies_beside_it(keeper: OutputKeeper, tmp_path: Path) -> None:
    outputs: list[Any] = []
    whole = "".join(f"line {number}\n" for number in range(50_000))
    for start in range(0, len(whole), 700):
        keeper.stream(outputs, "stdout", whole[start : start + 700])
    (notice,) = keeper.end_cell(outputs)
    kept = text_of(outputs)
    assert kept.startswith("line 0\n")
    assert kept.endswith("line 49999\n")
    assert len(kept) < 70_000
    assert "outputs/cell-1-stdout.log" in notice
    assert (tmp_path / "outputs" / "cell-1-stdout.log").read_text() == whole


def test_a_large_picture_is_kept_apart(keeper: OutputKeeper, tmp_path: Path) -> None:
    picture = bytes(range(256)) * 40
    output = v4.new_output(
        "display_data", data={"image/png": base64.b64encode(picture).decode(), "text/plain": "<Figure>"}
    )
    keeper.display(output)
    assert "image/png" not in output["data"]
    assert output["data"]["text/plain"].endswith("<Figure>")
    assert (tmp_path / "outputs" / "cell-1-output-1.png").read_bytes() == picture


def test_what_a_cell_clears_gives_its_room_back(keeper: OutputKeeper) -> None:
    for _ in range(20):
        outputs: list[Any] = []
        keeper.stream(outputs, "stdout", "x" * 800)
        assert text_of(outputs) == "x" * 800
        keeper.clear()


def test_all_cells_together_have_a_limit(keeper: OutputKeeper) -> None:
    sizes = []
    for number in (1, 2, 3):
        keeper.start_cell(number)
        outputs: list[Any] = []
        keeper.stream(outputs, "stdout", "x" * 700)
        sizes.append(len(text_of(outputs)))
        keeper.end_cell(outputs)
    assert sizes[0] == 700
    assert 0 < sizes[1] < 700
    assert sizes[2] == 0


def test_a_million_tiny_outputs_are_a_flood_too(tmp_path: Path) -> None:
    keeper = OutputKeeper(tmp_path / "outputs", cell_limit=10**6, total_limit=10**6, redactor=Redactor())
    keeper.start_cell(3)
    outputs: list[Any] = []
    for number in range(20_000):
        show(keeper, outputs, tiny(f"row {number}"))
    assert len(outputs) == 1000
    (notice,) = keeper.end_cell(outputs)
    left_out = 19_000
    assert f"{left_out:,} more outputs were left out" in notice
    assert notice in text_of(outputs)
    lines = (tmp_path / "outputs" / "cell-3-more.log").read_text().splitlines()
    assert (len(lines), lines[-1]) == (left_out, "row 19999")


def test_streams_that_alternate_are_bounded_as_well(tmp_path: Path) -> None:
    keeper = OutputKeeper(tmp_path / "outputs", cell_limit=100_000, total_limit=10**6, redactor=Redactor())
    keeper.start_cell(1)
    outputs: list[Any] = []
    for number in range(20_000):
        keeper.stream(outputs, ("stdout", "stderr")[number % 2], f"{number}\n")
    keeper.end_cell(outputs)
    assert len(json.dumps(outputs)) < 300_000
    assert len(outputs) < 1010
    assert (tmp_path / "outputs" / "cell-1-stdout.log").read_text().count("\n") == 10_000
    assert (tmp_path / "outputs" / "cell-1-stderr.log").read_text().count("\n") == 10_000


def test_all_cells_together_have_a_number_of_outputs(tmp_path: Path) -> None:
    keeper = OutputKeeper(tmp_path / "outputs", cell_limit=10**6, total_limit=10**8, redactor=Redactor())
    kept = []
    for cell in range(1, 11):
        keeper.start_cell(cell)
        for again in (False, True):
            if again:
                keeper.clear()  # what is cleared counts no more
            shown: list[Any] = []
            for _ in range(600):
                show(keeper, shown, tiny("x"))
        kept.append(len(shown))
    assert kept == [600] * 8 + [200, 0]


def test_an_output_that_is_shown_anew_takes_its_room_once_and_one_file(tmp_path: Path) -> None:
    keeper = OutputKeeper(tmp_path / "outputs", cell_limit=10_000, total_limit=15_000, redactor=Redactor())
    keeper.start_cell(1)
    shown = v4.new_output("display_data", data={"text/plain": "0%"})
    keeper.display(shown, display_id="bar")
    for size in [500] * 1000 + [20_000] * 50:
        keeper.replaced(shown, in_this_cell=True)
        shown = v4.new_output("display_data", data={"text/html": "x" * size, "text/plain": "some %"})
        assert not keeper.is_full
        keeper.display(shown, display_id="bar")
    assert [path.name for path in (tmp_path / "outputs").iterdir()] == ["cell-1-output-1.html"]
    outputs: list[Any] = []
    keeper.stream(outputs, "stdout", "x" * 9000)
    assert text_of(outputs) == "x" * 9000


def test_an_output_of_a_widget_is_bounded_and_its_text_kept(keeper: OutputKeeper, tmp_path: Path) -> None:
    kept = [keeper.widget({"name": "stdout", "text": f"{number}" * 100}) for number in range(9)]
    assert kept[0]
    assert not kept[-1]
    assert "8" * 100 in (tmp_path / "outputs" / "cell-1-more.log").read_text()


def test_secrets_are_masked_in_metadata_and_names_as_well(keeper: OutputKeeper) -> None:
    output = v4.new_output("display_data", data={"text/plain": "x"}, metadata={"hunter2hunter2": ["hunter2hunter2"]})
    keeper.display(output)
    assert "hunter2hunter2" not in str(output)
    assert "hunter2hunter2" not in str(keeper.mask({"state": {"value": "hunter2hunter2", "n": [1, None]}}))


def test_secrets_are_masked_also_when_two_messages_split_them(keeper: OutputKeeper) -> None:
    outputs: list[Any] = []
    keeper.stream(outputs, "stdout", "key hunter2")
    keeper.stream(outputs, "stdout", "hunter2 end")
    keeper.end_cell(outputs)
    assert text_of(outputs) == "key *** end"
    error = keeper.error(v4.new_output("error", ename="E", evalue="hunter2hunter2", traceback=["hunter2hunter2"]))
    assert "hunter2hunter2" not in str(error)


def test_a_huge_traceback_is_cut_in_the_middle(keeper: OutputKeeper) -> None:
    error = keeper.error(v4.new_output("error", ename="E", evalue="v", traceback=["a" * 10**6, "the end"]))
    assert len("".join(error["traceback"])) < 70_000
    assert error["traceback"][-1].endswith("the end")


@pytest.mark.parametrize(
    ("printed", "left"),
    [
        ("10%\r20%\r100%\n", "100%\n"),
        ("a\r\nb\r\n", "a\r\nb\r\n"),
        ("ab\x08c", "ac"),
        ("x\ry", "y"),
        ("plain", "plain"),
    ],
)
def test_progress_bars_leave_their_last_form(printed: str, left: str) -> None:
    assert apply_carriage_returns(printed) == left


@given(st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.text(max_size=200)), max_size=40))
def test_nothing_is_lost_below_the_limit(chunks: list[tuple[str, str]]) -> None:
    keeper = OutputKeeper(Path("unused"), cell_limit=10**9, total_limit=10**9, redactor=Redactor())
    keeper.start_cell(1)
    outputs: list[Any] = []
    for name, text in chunks:
        keeper.stream(outputs, name, text)
    for name in ("stdout", "stderr"):
        assert text_of(outputs, name) == "".join(text for other, text in chunks if other == name)


@given(st.text(alphabet="ab\n\x08", max_size=40))
def test_backspaces_take_back_what_a_terminal_would(text: str) -> None:
    expected = text
    while (shorter := re.sub(r"[^\n\x08]\x08", "", expected)) != expected:
        expected = shorter
    assert apply_carriage_returns(text) == expected


def test_a_million_backspaces_are_one_pass() -> None:
    count = 1_000_000
    assert apply_carriage_returns("x" + "a" * count + "\x08" * count) == "x"
    assert apply_carriage_returns("ab\x08\x08" * count) == ""
