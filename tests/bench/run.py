"""`make bench`: how long jupyter-mlops takes, beside papermill and nbconvert, on this machine, in one go.

Everything happens in a temporary directory with a home of its own. MLflow's database is made beforehand, because
making it is done once on a machine; that first time has a line of its own.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.bench import contestants, report
from tests.bench.measure import in_turns
from tests.bench.notebooks import NOTEBOOKS


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the tables and write them.

    Returns:
        0, or 1 when a contestant failed.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("bench-output"), help="directory for bench.md, .json, .png")
    parser.add_argument("--rounds", type=_positive, default=9, help="how often each is measured (default: 9)")
    parser.add_argument("--quick", action="store_true", help="one round of one notebook, to see that it works")
    chosen = parser.parse_args(arguments)
    results = report.Results(about=report.about_this_machine())
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as root:
        try:
            # Written as it comes: what was measured before an interruption is not lost.
            for _ in measured(Path(root).resolve(), results, rounds=chosen.rounds, quick=chosen.quick):
                results.about["load_after"] = report.about_this_machine()["load"]
                files = report.write(results, chosen.output)
        except contestants.BenchError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    sys.stdout.write(f"{report.tables(results)}\n")
    for path in files:
        sys.stdout.write(f"{path}\n")
    return 0


def measured(root: Path, results: report.Results, *, rounds: int, quick: bool) -> Iterator[None]:
    """Measure everything in this empty directory, into `results`; yields whenever a part of it is complete.

    Raises:
        BenchError: a contestant failed.
    """
    place = contestants.Place(root, orphans_come_here=contestants.adopt_orphans())
    rounds, warm_up = (1, 0) if quick else (rounds, 1)
    make_database(place.data)
    results.start_ups = in_turns(contestants.start_ups(place), rounds=rounds, warm_up=warm_up, told=_tell)
    yield
    for title in list(NOTEBOOKS)[: 1 if quick else None]:
        _tell(title)
        with contestants.contestants(place, title) as everyone:
            results.runs[title] = in_turns(everyone, rounds=rounds, warm_up=warm_up, told=_tell)
        yield
    _tell("the very first run")
    results.first_ever = [contestants.very_first(place, number) for number in range(1 if quick else 3)]
    yield


def make_database(data: Path) -> None:
    """MLflow's database, as the first run on a machine would make it."""
    from jupyter_mlops.tracking.connection import ensure_database

    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    ensure_database(data / "mlflow.db")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
