"""The bench's arithmetic on made-up times, and the whole of it once for real. No time is asserted: machines differ."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.contestants import (
    FLOOR,
    NBCONVERT,
    OURS,
    OURS_READY,
    OURS_WARM,
    PAPERMILL,
    PAPERMILL_API,
    PAPERMILL_WARM,
    Place,
)
from tests.bench.measure import Contestant, Sample, Summary, differences, in_turns, ratios, stages, summary
from tests.bench.report import Results, tables, write

RUN = Path(__file__).parents[1] / "bench" / "run.py"


def test_a_summary_is_the_median_and_the_extremes() -> None:
    assert summary([3.0, 1.0, 2.0]) == Summary(2.0, 1.0, 3.0)
    assert summary([1.0, 2.0, 4.0, 40.0]).median == 3.0
    with pytest.raises(ValueError, match="nothing"):
        summary([])


def test_a_ratio_is_of_times_of_the_same_round() -> None:
    # The medians are 3 and 2; in the second round both met something that made them ten times as slow.
    found = ratios([3.0, 30.0, 2.0], [2.0, 20.0, 1.0])
    assert found == Summary(1.5, 1.5, 2.0)
    assert differences([3.0, 30.0, 2.0], [2.0, 20.0, 1.5]) == Summary(1.0, 0.5, 10.0)
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_a_stage_lasts_from_the_end_of_the_one_before() -> None:
    assert stages([("", 10.0), ("a", 10.5), ("b", 12.5)]) == {"a": 0.5, "b": 2.0}


def test_contestants_take_turns_and_the_warm_up_does_not_count() -> None:
    order: list[str] = []

    def contestant(name: str) -> Contestant:
        def run() -> Sample:
            order.append(name)
            return Sample(end=float(len(order)))

        return Contestant(name, run)

    samples = in_turns([contestant(name) for name in "abc"], rounds=3, warm_up=1)
    assert ["".join(order[at : at + 3]) for at in range(0, 12, 3)] == ["cab", "abc", "bca", "cab"]
    assert [sample.end for sample in samples["a"]] == [4.0, 9.0, 11.0]
    assert {len(found) for found in samples.values()} == {3}


def test_a_contestant_that_fails_gives_no_table() -> None:
    def fail() -> Sample:
        raise RuntimeError("kaputt")

    with pytest.raises(RuntimeError, match="kaputt"):
        in_turns([Contestant("a", fail)], rounds=2)


def results(**runs: list[Sample]) -> Results:
    about = {
        "date": "2026-01-01", "cores": 2, "system": "Linux", "python": "3.12", "load": [0.5], "versions": {"papermill": "2"},
    }  # fmt: skip
    return Results(about=about, runs={"nine": runs})


def row(text: str, name: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |") or line.startswith(f"| `{name}` |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_says_how_many_times_as_long_ours_took() -> None:
    found = results(
        **{
            PAPERMILL: [Sample(end=4.0, first_cell=2.0), Sample(end=4.0, first_cell=2.0)],
            OURS: [Sample(2.0, first_cell=3.0, processor=1.0), Sample(2.0, first_cell=5.0, processor=1.5)],
            OURS_READY: [Sample(end=1.0, first_cell=0.5)] * 2,
            PAPERMILL_WARM: [Sample(end=1.0, first_cell=1.0)] * 2,
            OURS_WARM: [Sample(end=3.0, first_cell=2.5)] * 2,
        }
    )
    text = tables(found)
    assert row(text, PAPERMILL)[1:7] == [
        "2.00 (2.00 to 2.00)", "4.00 (4.00 to 4.00)", "2.00 (1.50 to 2.50)", "0.50 (0.50 to 0.50)",
        "0.25 (0.25 to 0.25)", "0.25 (0.25 to 0.25)",
    ]  # fmt: skip
    assert row(text, PAPERMILL_WARM)[3:5] == ["2.50 (2.50 to 2.50)", "3.00 (3.00 to 3.00)"]
    assert row(text, OURS)[3:] == ["", "", "", "", "1.25"]


def test_a_promise_that_is_missed_is_said_to_be() -> None:
    found = results(**{OURS: [Sample(end=2.0, first_cell=1.0)]})
    found.start_ups = {
        "bare IPython": [Sample(0.5), Sample(0.6)],
        "IPython, %load_ext jupyter_mlops": [Sample(0.6), Sample(0.7)],
        "jupyter mlops --help": [Sample(0.4), Sample(0.4)],
    }
    text = tables(found)
    assert "%load_ext jupyter_mlops: 0.100 (0.100 to 0.100) s over bare IPython; the goal is 0.15 s: kept" in text
    assert "jupyter mlops --help: 0.400 (0.400 to 0.400) s; the goal is 0.3 s: missed" in text


def test_what_was_measured_before_an_interruption_is_written(tmp_path: Path) -> None:
    found = results()
    found.runs = {}
    found.start_ups = {"bare IPython": [Sample(0.5)], "IPython, %load_ext jupyter_mlops": [Sample(0.6)],
                       "jupyter mlops --help": [Sample(0.2)]}  # fmt: skip
    files = write(found, tmp_path / "out")
    assert [path.name for path in files] == ["bench.md", "bench.json"]
    assert "kept" in files[0].read_text()
    assert json.loads(files[1].read_text())["start_ups"]["bare IPython"][0]["end"] == 0.5


def test_a_command_that_fails_is_not_measured(tmp_path: Path) -> None:
    from tests.bench.contestants import BenchError

    place = Place(tmp_path / "bench")
    with pytest.raises(BenchError, match="no such thing"):
        place.run([sys.executable, "-c", "raise SystemExit('no such thing')"])


def test_the_first_cell_is_what_the_stamp_says(tmp_path: Path) -> None:
    place = Place(tmp_path / "bench")
    code = "import os, time; open(os.environ['BENCH_STAMP'], 'w').write(repr(time.time()))"
    sample = place.run([sys.executable, "-c", code])
    assert sample.first_cell is not None
    assert 0 < sample.first_cell <= sample.end
    assert place.run([sys.executable, "-c", "pass"]).first_cell is None


@pytest.mark.integration
def test_the_quick_bench_measures_everyone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(RUN), "--quick", "--output", str(tmp_path / "out")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "bench.json").read_text())
    (samples,) = found["runs"].values()
    assert {FLOOR, PAPERMILL, PAPERMILL_API, PAPERMILL_WARM, NBCONVERT, OURS, OURS_READY, OURS_WARM} <= samples.keys()
    for name, (sample,) in samples.items():
        assert 0 < sample["first_cell"] <= sample["end"], name
    (sample,) = samples[OURS]
    assert sum(sample["stages"].values()) == pytest.approx(sample["end"])
    assert len(found["first_ever"]) == 1
    assert (tmp_path / "out" / "bench.md").read_text() in done.stdout
    assert (tmp_path / "out" / "bench.png").read_bytes().startswith(b"\x89PNG")
