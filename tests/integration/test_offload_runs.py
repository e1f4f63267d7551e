"""`%%mlops run` from a real kernel with real runs, scripts as runs, and `compare` and `diff` on what runs left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.events import LogEvent
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import RunState

pytestmark = pytest.mark.integration

PATIENCE = 300
"""Seconds for one cell, a run in it included."""


@dataclass
class Reply:
    """What came of executing a cell."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""

    @property
    def text(self) -> str:
        """What was printed, and the text of what was displayed."""
        return "".join(
            output.get("text") or str(output.get("data", {}).get("text/plain", "")) + "\n" for output in self.outputs
        )

    def displayed(self, mime: str) -> list[str]:
        return [output["data"][mime] for output in self.outputs if mime in output.get("data", {})]


@dataclass
class Session:
    """A notebook's kernel with the extension loaded."""

    client: Any
    directory: Path

    def __call__(self, source: str) -> Reply:
        reply = Reply()

        def take(message: dict[str, Any]) -> None:
            kind, content = message["msg_type"], message["content"]
            if kind in ("stream", "display_data", "execute_result"):
                reply.outputs.append(content)
            elif kind == "error":
                reply.error = f"{content['ename']}: {content['evalue']}"

        self.client.execute_interactive(source, output_hook=take, timeout=PATIENCE)
        return reply

    def value(self, expression: str) -> Any:
        reply = self(f"import json as _json; print(_json.dumps({expression}))")
        assert not reply.error, reply.error
        return json.loads(reply.text)


@pytest.fixture
def session(runs: Runs, tmp_path: Path) -> Iterator[Session]:
    from jupyter_client.manager import start_new_kernel

    directory = tmp_path / "project"
    directory.mkdir()
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(directory), startup_timeout=PATIENCE)
    session = Session(client, directory)
    reply = session("%load_ext jupyter_mlops")
    assert not reply.error
    yield session
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def last(runs: Runs):
    return runs.get("@last")


def test_a_cell_runs_elsewhere_with_its_names_and_shows_what_it_displayed(runs: Runs, session: Session) -> None:
    session(
        "import pandas as pd\nimport matplotlib.pyplot as plt\nfactor = 2\nframe = pd.DataFrame({'a': [1, 2, 3]})\n"
        "seen = []\nclass Net:\n    weight = 0\n    def rate(self, x):\n        return scale(x) + self.weight\n"
        "def scale(x):\n    return x * factor\nnet = Net()"
    )
    reply = session(
        "%%mlops run\nimport os\nprint('in process', os.getpid())\nfactor = 10\nscaled = net.rate(frame)\n"
        "net.weight = 5\nseen.append(1)\nplt.plot([1, 2])\nplt.show()\ndef above(x):\n    return x > factor\nscaled"
    )
    assert not reply.error, reply.error
    record = last(runs)
    assert record.state is RunState.SUCCEEDED
    assert f"Run {record.run_id} of cell, with frame, net, seen" in reply.text
    assert "in process" in reply.text
    assert str(session.value("__import__('os').getpid()")) not in reply.text
    assert len(reply.displayed("image/png")) == 1
    assert any("30" in page for page in reply.displayed("text/html") if "<table" in page and "dataframe" in page)
    assert "Back: above, factor, os, scaled" in reply.text
    assert "Changed by the cell: net, seen" in reply.text
    assert session.value("scaled['a'].tolist()") == [10, 20, 30]
    assert session.value("[net.weight, type(net) is Net, seen, factor]") == [5, True, [1], 10]
    session("factor = 100")
    assert session.value("[above(50), scale(1)]") == [False, 100]


def test_a_cell_that_fails_shows_its_error_and_changes_nothing(runs: Runs, session: Session) -> None:
    session("total = 1")
    reply = session("%%mlops run\nprint('before')\ntotal = total + 1\nresult = total / 0")
    assert reply.error.startswith("RunFailedError: Cell 2 failed at `result = total / 0`: ZeroDivisionError")
    assert "before" in reply.text
    assert "Traceback" in reply.text
    assert session.value("[total, 'result' in globals()]") == [1, False]
    assert last(runs).state is RunState.FAILED
    reply = session("%%mlops run\nimport sys\nafter = 1\nsys.exit()")
    assert "left no results" in reply.error
    assert session.value("'after' in globals()") is False


def test_what_cannot_be_sent_is_refused_before_there_is_a_run(runs: Runs, session: Session) -> None:
    session(
        "import threading\nlock = threading.Lock()\ndef locked():\n    return lock\ndb_password = 'hunter2-hunter2'"
    )
    assert "'lock' (_thread.lock)" in session("%%mlops run\nlock.acquire()").error
    assert "'locked', which reads 'lock'" in session("%%mlops run\nlocked()").error
    assert "looks like a secret" in session("%%mlops run\nprint(db_password)").error
    assert "no Python" in session("%%mlops run\nx = = 1").error
    assert "nothing to run" in session("%mlops run").error
    assert "not both" in session("%%mlops run script.py\nx = 1").error
    assert runs.find() == []
    reply = session("%%mlops run\nimport threading\nx, other = 1, threading.Lock()")
    assert "Back: threading, x" in reply.text
    assert "'other' stayed behind: lock: cannot pickle" in reply.text


def test_a_cell_finds_the_modules_and_the_dask_cluster_that_the_session_has(runs: Runs, session: Session) -> None:
    (session.directory / "mine.py").write_text("class Thing:\n    size = 3\ndef double(x):\n    return 2 * x\n")
    session(
        "from distributed import Client\nfrom mine import Thing, double\nthings = [Thing()]\n"
        "client = Client(processes=False, n_workers=1, dashboard_address=None)\ndef work(x):\n    return double(x)\n"
        "later = client.submit(work, 1)"
    )
    assert "result()" in session("%%mlops run\nlater.result()").error
    reply = session("%%mlops run --workers 1 --cpus 1\nx = client.submit(work, things[0].size).result()")
    assert not reply.error, reply.error
    assert session.value("[x, type(client.submit(work, 1).result()).__name__]") == [6, "int"]
    assert "with things, work" in reply.text
    session("client.close()")


def test_a_detached_cell_gives_its_results_to_whoever_waits_for_it(runs: Runs, session: Session) -> None:
    reply = session("%%mlops run --detach\nx = [1, 2]")
    record = last(runs)
    assert f"%mlops attach {record.run_id} --wait" in reply.text
    assert session.value("'x' in globals()") is False
    reply = session(f"%mlops attach {record.run_id} --wait")
    assert "Back: x" in reply.text
    assert session.value("x") == [1, 2]


def test_a_script_runs_as_it_would_alone(runs: Runs, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "mine.py").write_text("VALUE = 'of my module'\n")
    script = project / "script.py"
    script.write_text(
        "import argparse\nfrom pathlib import Path\nimport mine\nargparse.ArgumentParser().parse_args()\n"
        "if __name__ == '__main__':\n    print(mine.VALUE, Path(__file__).name, Path('data.txt').read_text())\n"
    )
    (project / "data.txt").write_text("of my file")
    done = subprocess.run(
        [sys.executable, "-m", "jupyter_mlops.cli", "run", str(script), "--name", "by hand"],
        capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ), timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    record = last(runs)
    assert record.name == "by hand"
    printed = "".join(event.text for event in runs.events(record) if isinstance(event, LogEvent))
    assert printed == "of my module script.py of my file\n"


def invoke(*arguments: str):
    return CliRunner().invoke(mlops, list(arguments), prog_name="jupyter mlops")


def test_two_runs_are_compared_and_their_notebooks_are(
    runs: Runs, run_notebook: Callable, session: Session, tmp_path: Path
) -> None:
    cells = (
        ("lr = 0.1\nname = 'model'", "parameters"),
        "import mlflow\nfor step in range(20):\n    mlflow.log_metric('loss', 1 / (1 + lr * step), step=step)\n"
        "mlflow.log_metric('accuracy', 0.5 + lr / 2)\nprint('lr', lr)\nobject()",
    )  # fmt: skip
    first = run_notebook(*cells)
    second = run_notebook(*cells, assignments={"lr": "0.6"})
    picture = tmp_path / "plot.png"

    compared = invoke("compare", first.run_id, second.run_id, "--plot", str(picture))
    assert compared.exit_code == 0, compared.output
    assert "0.8 *  +0.25, +45.5 %" in compared.output
    assert "name" in compared.output
    assert picture.read_bytes().startswith(b"\x89PNG")
    data = json.loads(invoke("compare", first.run_id, second.run_id, "--json").output)
    assert data["parameters"]["lr"]["values"] == {first.run_id: "0.1", second.run_id: "0.6"}
    assert data["metrics"]["loss"]["best"] == [second.run_id]
    refused = invoke("compare", first.run_id, second.run_id, "--plot", str(tmp_path / "plot.docx"))
    assert refused.exit_code == 2
    assert "png" in refused.output

    reply = session(f"%mlops compare {first.run_id} {second.run_id}")
    assert not reply.error, reply.error
    (page,) = reply.displayed("text/html")
    assert 'class="mlops-compared"' in page
    assert len(reply.displayed("image/png")) == 1

    different = invoke("diff", first.run_id, second.run_id)
    assert different.exit_code == 0, different.output
    assert "+      lr = 0.6" in different.output
    assert "-  lr 0.1\n+  lr 0.6" in different.output
    assert "papermill" not in different.output
    assert "\x1b" not in different.output
    assert "lr 0.6" not in invoke("diff", first.run_id, second.run_id, "--no-outputs").output
    again = runs.wait(runs.retry(first.run_id).run_id)
    assert invoke("diff", first.run_id, again.run_id).output == "The notebooks are the same.\n"
