"""A process that stays warm: executes each notebook whose path comes in on a line, and answers `done`.

`python warm.py papermill` calls papermill, `python warm.py mlops` calls what `%mlops train` calls.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path


def with_papermill() -> Callable[[Path], None]:
    """Papermill's own function, in this process."""
    import papermill

    def execute(notebook: Path) -> None:
        papermill.execute_notebook(
            str(notebook), str(notebook.parent.parent / "out" / "warm.ipynb"), progress_bar=False
        )

    return execute


def with_mlops() -> Callable[[Path], None]:
    """The core of jupyter-mlops, on one store."""
    from jupyter_mlops.runs import Runs

    runs = Runs()

    def execute(notebook: Path) -> None:
        record = runs.wait(runs.submit(runs.prepare(notebook)).run_id)
        if record.state.value != "succeeded":
            raise RuntimeError(record.message)

    return execute


def main() -> None:
    """Serve until standard input ends."""
    # Kernels inherit standard output; the answers need one that nobody else writes to.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    execute = {"papermill": with_papermill, "mlops": with_mlops}[sys.argv[1]]()
    for line in sys.stdin:
        try:
            execute(Path(line.strip()))
            answers.write("done\n")
        except Exception as error:
            answers.write(f"{type(error).__name__}: {error}".replace("\n", " ") + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
