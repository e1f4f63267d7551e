import signal

import pytest

from jupyter_mlops.engine.outcome import cell_error, format_bytes, kernel_death, plain, source_line
from jupyter_mlops.profile import Profile
from jupyter_mlops.spec import FailureCode

PROFILE = Profile(name="p", memory=2**30)


def error(ename: str, evalue: str = "", traceback: list[str] | None = None):
    return cell_error(
        ename=ename, evalue=evalue, traceback=traceback or [], source="x = 1\nmodel.fit(x)\n", cell_index=4, number=3,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ename", "evalue", "code"),
    [
        ("ValueError", "bad", FailureCode.CELL_FAILED),
        ("MemoryError", "", FailureCode.OUT_OF_MEMORY),
        ("OutOfMemoryError", "CUDA out of memory. Tried to allocate 2 GiB", FailureCode.OUT_OF_MEMORY),
        ("RuntimeError", "CUDA error: out of memory", FailureCode.OUT_OF_MEMORY),
        ("OSError", "[Errno 28] No space left on device: 'x'", FailureCode.DISK_FULL),
        ("ModuleNotFoundError", "No module named 'x'", FailureCode.CELL_FAILED),
    ],
)
def test_what_a_cell_raised_becomes_a_code(ename: str, evalue: str, code: FailureCode) -> None:
    assert error(ename, evalue).code is code


def test_an_mlflow_that_went_away_is_told_apart_from_the_cells_own_failure() -> None:
    evalue = "API request to http://127.0.0.1:5000/api/2.0/mlflow/runs/log-metric failed with exception Max retries"
    assert error("MlflowException", evalue).code is FailureCode.MLFLOW_UNREACHABLE
    assert error("ConnectionError", "https://example.org went away").code is FailureCode.CELL_FAILED


def test_the_sentence_names_the_cell_its_line_and_the_error() -> None:
    outcome = error("ValueError", "shape", ["\x1b[0;31mCell In[7], line 2\x1b[0m\n 1 x\n----> 2 model.fit(x)"])
    assert outcome.message == "Cell 3 failed at `model.fit(x)`: ValueError: shape"
    assert outcome.line == "model.fit(x)"
    assert outcome.cell_index == 4


def test_a_line_number_beyond_the_cell_is_not_believed() -> None:
    assert source_line("a\nb", ["Cell In[1], line 99"]) is None
    assert source_line("a\nb", ["Cell In[9], line 99\n...\nCell In[2], line 1"]) == "a"


def test_a_long_error_is_cut() -> None:
    assert len(error("ValueError", "y" * 100_000).message) < 700


@pytest.mark.parametrize(
    ("returncode", "kills", "code", "words"),
    [
        (-signal.SIGSEGV, 0, FailureCode.KERNEL_DIED, "signal SIGSEGV"),
        (-signal.SIGKILL, 1, FailureCode.OUT_OF_MEMORY, "1.0 GiB"),
        (-signal.SIGKILL, 0, FailureCode.KERNEL_DIED, "SIGKILL"),
        (17, 0, FailureCode.KERNEL_DIED, "exit code 17"),
        (None, 0, FailureCode.KERNEL_DIED, "not known"),
    ],
)
def test_a_dead_kernel_tells_how_it_died(returncode: int | None, kills: int, code: FailureCode, words: str) -> None:
    outcome = kernel_death(
        returncode=returncode, oom_kills=kills, last_memory=900 * 2**20, limit=2**30, cell_index=1, number=2
    )
    assert outcome.code is code
    assert words in outcome.message
    assert "in cell 2" in outcome.message


@pytest.mark.parametrize("moment", ["before the first cell", "after the last cell"])
def test_a_kernel_that_died_in_no_cell_tells_when(moment: str) -> None:
    outcome = kernel_death(
        returncode=-9, oom_kills=1, last_memory=None, limit=None, cell_index=None, number=None, moment=moment
    )
    assert moment in outcome.message
    assert "the machine's memory was full" in outcome.message


def test_escape_sequences_do_not_reach_the_sentence() -> None:
    assert plain("\x1b]8;;http://evil\x07click\x1b[31m red\x1b[0m") == "click red"
    assert "\x1b" not in error("ValueError", "\x1b[31mred").message


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1536, "1.5 KiB"), (5 * 2**40, "5.0 TiB")])
def test_bytes_read_well(count: int, text: str) -> None:
    assert format_bytes(count) == text
