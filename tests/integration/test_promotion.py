"""Promotion on the real thing: runs in kernels, MLflow, the store, git, the commands, a process of the job scheduler."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from jupyter_mlops.errors import NotFoundError, UsageError
from jupyter_mlops.jobs.core import Jobs
from jupyter_mlops.jobs.firing import Firing
from jupyter_mlops.jobs.gate import ApprovalGate, ChampionGate, DataChecksGate, GitGate, MetricGate
from jupyter_mlops.jobs.model import JobState, RegisteredModel, Schedule, SlotState, VersionState
from jupyter_mlops.jobs.models import crown
from jupyter_mlops.jobs.promotion import Promotions, Verdict
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import RunState
from jupyter_mlops.store.audit import AuditStore
from jupyter_mlops.store.jobs import JobStore
from jupyter_mlops.store.models import RunRecord
from jupyter_mlops.store.slots import SlotStore

pytestmark = pytest.mark.integration

PATIENCE = 300.0
PARAMETERS = ("shift = 0.0", "parameters")
CHECKS = ("assert 1 + 1 == 2", "data-checks")
SCORE = "import mlflow\nmlflow.log_metric('accuracy', 0.9 + shift)"
ENOUGH = MetricGate(metric="accuracy", operator=">=", threshold=0.85)
MORE = MetricGate(metric="accuracy", operator=">=", threshold=0.95)
NIGHTLY = Schedule(cron="0 2 * * *", tz="Europe/Berlin")


@pytest.fixture(autouse=True)
def ann(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "ann")


@pytest.fixture
def promotions(runs: Runs) -> Promotions:
    return Promotions(runs)


def command(*arguments: str, user: str = "ann") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "jupyter_mlops.cli", *arguments], capture_output=True, text=True, timeout=PATIENCE,
        env={**os.environ, "JUPYTERHUB_USER": user, "COLUMNS": "200"},
    )  # fmt: skip


def promoted(promotions: Promotions, path: Path, *, run: RunRecord | None = None, **options: Any) -> Verdict:
    """Promote from a run, or from a clean run of its own."""
    force = options.get("force", False)
    proposal = promotions.prepare(path, **{"job": "churn", "schedule": NIGHTLY, **options})
    if run is not None:
        run = promotions.usable_run(run.run_id, proposal.version)
    verdict = promotions.propose(proposal, force=force)
    number = verdict.record.version.number
    if run is None:
        run = promotions.runs.wait(promotions.clean_run("churn", number).run_id)
    return promotions.judge("churn", number, run=run, force=force, reason=options.get("reason", ""))


def actions(runs: Runs) -> list[str]:
    return [logged.entry.action for logged in AuditStore(runs.store).export()]


@contextmanager
def as_user(monkeypatch: pytest.MonkeyPatch, name: str) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("JUPYTERHUB_USER", name)
        yield


@contextmanager
def job_scheduler() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-m", "jupyter_mlops.cli", "scheduler", "run"])
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def until(done: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := done()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.5)
    return found


def test_a_notebook_is_promoted_and_the_job_scheduler_runs_it_and_it_is_the_champion(
    runs: Runs, promotions: Promotions, make_notebook: Callable[..., Path]
) -> None:
    path = make_notebook(PARAMETERS, CHECKS, SCORE)
    told = command("promote", str(path), "--name", "churn", "--schedule", "0 2 * * *", "--tz", "Europe/Berlin",
                   "--require", "accuracy>=0.85", "--require-checks", "data-checks", "--reason", "first try")  # fmt: skip
    assert told.returncode == 0, told.stderr + told.stdout
    assert "Version 1 of the job churn is live." in told.stdout
    assert "at 02:00 every day, Europe/Berlin" in told.stdout
    assert "Start one: jupyter mlops scheduler run" in told.stdout
    store = JobStore(runs.store)
    job = store.job("churn")
    assert (job.live_version, job.owner) == (1, "ann")
    assert job.next_time is not None
    results = store.gate_results("churn", 1)
    assert [(result.gate.kind, result.passed) for result in results] == [
        ("clean_run", True), ("data_checks", True), ("metric", True),
    ]  # fmt: skip
    clean = runs.get(results[0].evidence["run"])
    assert (clean.state, clean.owner) == (RunState.SUCCEEDED, "ann")
    assert results[2].evidence["value"] == 0.9

    shown = command("jobs", "show", "churn")
    assert "passed" in shown.stdout
    assert "first try" in shown.stdout
    assert clean.run_id in shown.stdout

    fired = command("jobs", "trigger", "churn")
    assert fired.returncode == 0, fired.stderr
    other = Firing(runs).trigger("churn", assignments={"shift": "0.05"})
    with job_scheduler():
        slots = until(
            lambda: [s for s in [SlotStore(runs.store).slots(job="churn")] if all(x.state.is_terminal for x in s)]
        )
    assert [slot.state for slot in slots[0]] == [SlotState.SUCCEEDED] * 2
    by_key = {slot.key: slot for slot in slots[0]}
    with_others = by_key.pop(other.key)
    (plain,) = by_key.values()
    assert runs.get(str(with_others.run_id)).parameters["shift"] == 0.05
    assert "shift" not in runs.get(str(plain.run_id)).parameters
    assert runs.spec(str(plain.run_id)).tags["mlops.job_version"] == "1"

    worse = promoted(
        promotions, path, parameters={"shift": -0.04}, gates=[ENOUGH, ChampionGate(metric="accuracy", margin=0.01)]
    )
    assert worse.record.state is VersionState.REFUSED
    (refused,) = worse.failed
    assert refused.seen == f"accuracy is 0.86, production's (v1, run {plain.run_id}) is 0.9"
    assert refused.wanted == "accuracy not below production's by more than 0.01"
    assert store.job("churn").live_version == 1
    assert AuditStore(runs.store).verify().problems == ()
    assert [action for action in actions(runs) if action.startswith("job.")] == [
        "job.propose", "job.gates", "job.promote", "job.trigger", "job.trigger", "job.propose", "job.gates", "job.refuse",
    ]  # fmt: skip


def test_a_refusal_says_which_gate_the_value_and_what_would_pass_and_force_is_the_policys(
    runs: Runs, promotions: Promotions, make_notebook: Callable[..., Path], run_notebook: Callable[..., RunRecord]
) -> None:
    cells = (PARAMETERS, ("raise ValueError('nulls')", "raises-exception"), SCORE)
    record = run_notebook(*cells)
    assert record.state is RunState.SUCCEEDED
    path = Path(record.source)
    refused = command(
        "promote", str(path), "--name", "churn", "--require", "accuracy>=0.95", "--require-checks", "raises-exception",
        "--require", "acuracy>0", "--from-run", record.run_id,
    )  # fmt: skip
    assert refused.returncode == 1, refused.stdout
    assert f"accuracy is 0.9 in run {record.run_id}" in refused.stdout
    assert "accuracy of 0.95 or more" in refused.stdout
    assert "Did you mean 'accuracy'?" in refused.stdout
    assert "is refused: the cell 'raise ValueError('nulls')' raised ValueError" in refused.stderr
    assert JobStore(runs.store).version("churn", 1).state is VersionState.REFUSED
    assert JobStore(runs.store).job("churn").live_version is None

    with pytest.raises(UsageError, match="does not allow to force"):
        promoted(promotions, path, run=record, gates=[MORE], force=True, reason="tonight it must run")
    runs.config.promotion_policy = {"*": {"allow_force": True}}
    with pytest.raises(UsageError, match="needs a reason"):
        promoted(promotions, path, run=record, gates=[MORE], force=True)
    forced = promoted(
        promotions, path, run=record, gates=[MORE, ApprovalGate()], force=True, reason="tonight it must run"
    )
    assert forced.record.state is VersionState.LIVE
    assert [(one.gate.kind, one.forced) for one in forced.results] == [
        ("clean_run", False), ("metric", True), ("approval", True),
    ]  # fmt: skip
    (entry,) = AuditStore(runs.store).entries(action="job.force")
    assert entry.entry.details["reason"] == "tonight it must run"
    assert len(entry.entry.details["forced"]) == 2

    with pytest.raises(UsageError, match="another parameters than what is promoted"):
        promoted(promotions, path, run=record, parameters={"shift": 0.01})
    make_notebook(*cells, "1")
    with pytest.raises(UsageError, match="another snapshot than what is promoted"):
        promoted(promotions, path, run=record)


def test_somebody_else_approves_and_a_policy_is_not_undercut(
    runs: Runs, promotions: Promotions, make_notebook: Callable[..., Path], run_notebook: Callable[..., RunRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    record = run_notebook(PARAMETERS, SCORE)
    path = Path(record.source)
    runs.config.promotion_policy = {"ch*": {"approvals": 2, "approvers": ["ann", "bob", "cat"]}}
    waits = promoted(promotions, path, run=record, gates=[ENOUGH, ApprovalGate(count=1)])
    assert waits.record.state is VersionState.PROPOSED
    assert [one.missing for one in waits.waiting] == [
        "1 person must approve: anybody but the author", "2 people must approve: ann, bob, cat",
    ]  # fmt: skip
    again = promoted(promotions, path, run=record, gates=[ENOUGH, ApprovalGate(count=1)])
    assert again.record.version.number == 1, "what waits is gone on with, and not proposed twice"
    with pytest.raises(UsageError, match="ann made version 1 of the job churn: somebody else approves it"):
        promotions.approve("churn")
    with as_user(monkeypatch, "bob"):
        half = promotions.approve("churn", comment="looks right")
    assert half.record.state is VersionState.PROPOSED
    assert [one.missing for one in half.waiting] == ["1 person more must approve (bob did): ann, bob, cat"]
    with as_user(monkeypatch, "eve"):
        assert promotions.approve("churn").record.state is VersionState.PROPOSED, "eve is not of the policy's"
    with as_user(monkeypatch, "cat"):
        live = promotions.approve("churn", 1)
    assert live.record.state is VersionState.LIVE
    said = JobStore(runs.store).approvals("churn", 1)
    assert [(one.who, one.comment) for one in said] == [("bob", "looks right"), ("eve", ""), ("cat", "")]
    with as_user(monkeypatch, "cat"), pytest.raises(UsageError, match="no version that is proposed"):
        promotions.approve("churn")

    # A version that was proposed under a weaker policy is judged by the one of now.
    runs.config.promotion_policy = {}
    second = promotions.propose(promotions.prepare(path, job="churn", gates=[ENOUGH]))
    runs.config.promotion_policy = {"*": {"approvals": 1}}
    found = promotions.judge("churn", second.record.version.number, run=record)
    assert found.record.state is VersionState.PROPOSED
    rejected = command("approve", "churn", "--reject", "--comment", "[red]no[/red] \x1b[31m", user="eve")
    assert rejected.returncode == 0, rejected.stderr
    assert "refused" in rejected.stdout
    assert "\x1b" not in rejected.stdout
    assert JobStore(runs.store).version("churn", 2).state is VersionState.REFUSED

    # What was proposed before the live version does not take its place any more.
    old = promotions.propose(promotions.prepare(path, job="churn", gates=[ENOUGH], reason="old"))
    runs.config.promotion_policy = {}
    new = promoted(promotions, path, run=record, gates=[])
    assert new.record.state is VersionState.LIVE
    late = promotions.judge("churn", old.record.version.number, run=record)
    assert (late.record.state, late.why) == (
        VersionState.REFUSED, "Version 4 went live after version 3 was proposed.",
    )  # fmt: skip
    withdrawn = promotions.propose(promotions.prepare(path, job="churn", gates=[MORE])).record.version.number
    assert promotions.approve("churn", withdrawn, approved=False).why == "The author, ann, withdrew it."


def test_versions_are_compared_rolled_back_paused_deleted_and_exported(
    runs: Runs, promotions: Promotions, make_notebook: Callable[..., Path], run_notebook: Callable[..., RunRecord],
    tmp_path: Path,
) -> None:  # fmt: skip
    record = run_notebook(PARAMETERS, SCORE)
    path = Path(record.source)
    jobs, store = Jobs(runs), JobStore(runs.store)
    promoted(promotions, path, run=record, gates=[ENOUGH])
    make_notebook(PARAMETERS, SCORE, "print('new cell')")
    second = promoted(
        promotions, path, schedule=Schedule(every=3600.0), gates=[ENOUGH, ChampionGate(metric="accuracy")]
    )
    assert second.record.state is VersionState.LIVE
    assert f"v1, run {record.run_id}" in second.results[-1].seen, "the clean run stands for a version that never ran"

    told = command("jobs", "diff", "churn", "v1", "2")
    assert told.returncode == 0, told.stderr
    for words in ("at 02:00 every day, Europe/Berlin", "every hour", "new cell", "accuracy not below production's"):
        assert words in told.stdout
    assert "0.9" not in told.stdout.partition("Notebook:")[0].replace("0.95", ""), "what is the same is not told"

    back = command("jobs", "rollback", "churn", "--reason", "v2 is slow")
    assert back.returncode == 0, back.stderr
    copy = store.version("churn", 3)
    assert (copy.state, copy.version.copy_of, copy.version.reason) == (VersionState.LIVE, 1, "v2 is slow")
    assert [result.evidence["copied_from_version"] for result in store.gate_results("churn", 3)] == [1, 1]
    assert store.version("churn", 2).state is VersionState.RETIRED
    with pytest.raises(UsageError, match="no earlier version"):
        jobs.rollback("churn")
    with pytest.raises(UsageError, match="is live now"):
        jobs.rollback("churn", 3)
    with pytest.raises(NotFoundError):
        jobs.rollback("churn", 9)

    history = json.loads(command("jobs", "history", "churn", "--json").stdout)
    assert [(one["version"], one["state"], one["copy_of"]) for one in history] == [
        (3, "live", 1), (2, "retired", None), (1, "retired", None),
    ]  # fmt: skip
    assert "back to v1. v2 is slow" in command("jobs", "history", "churn").stdout

    firing = Firing(runs)
    moments, made = firing.backfill("churn", "2026-03-28", "2026-03-30", dry_run=True)
    assert ([moment.isoformat() for moment in moments], made) == (
        ["2026-03-28T01:00:00+00:00", "2026-03-29T01:00:00+00:00", "2026-03-30T00:00:00+00:00"], [],
    )  # fmt: skip
    assert SlotStore(runs.store).slots(job="churn") == []
    assert len(firing.backfill("churn", "2026-03-28", "2026-03-30", reason="late data")[1]) == 3
    assert firing.backfill("churn", "2026-03-30", "2026-03-31")[1] != moments
    assert len(SlotStore(runs.store).slots(job="churn")) == 4
    with pytest.raises(UsageError, match="more than 100 moments"):
        firing.backfill("churn", "2000-01-01", "2026-03-30")
    with pytest.raises(UsageError, match="is after"):
        firing.backfill("churn", "2026-03-30", "2026-03-28")
    with pytest.raises(UsageError, match="shfit"):
        firing.trigger("churn", assignments={"shfit": "1"})


def test_a_job_is_paused_exported_deleted_and_brought_back(
    runs: Runs, promotions: Promotions, make_notebook: Callable[..., Path], run_notebook: Callable[..., RunRecord],
    tmp_path: Path,
) -> None:  # fmt: skip
    record = run_notebook(PARAMETERS, SCORE)
    path = Path(record.source)
    jobs, firing = Jobs(runs), Firing(runs)
    promoted(promotions, path, run=record)
    assert jobs.pause("churn").state is JobState.PAUSED
    assert jobs.find()[0].job.next_time is None
    assert jobs.resume("churn").next_time is not None
    files = jobs.export("churn", None, tmp_path / "out")
    assert sorted(file.name for file in files) == ["job.json", f"snapshot-{record.snapshot_id[:12]}.zip"]
    assert json.loads(files[0].read_text())["job"] == "churn"
    assert jobs.delete("churn").state is JobState.DELETED
    assert jobs.find() == []
    for refused in (jobs.pause, jobs.resume, jobs.delete, firing.trigger):
        with pytest.raises(UsageError, match="is deleted"):
            refused("churn")
    assert jobs.rollback("churn").record.version.copy_of == 1
    assert jobs.find()[0].job.state is JobState.ACTIVE
    assert AuditStore(runs.store).verify().problems == ()
    for action in ("job.rollback", "job.pause", "job.resume", "job.delete"):
        assert action in actions(runs)


def test_a_model_is_registered_once_and_the_gates_make_it_the_champion(
    runs: Runs, promotions: Promotions, make_notebook: Callable[..., Path], run_notebook: Callable[..., RunRecord],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from mlflow import MlflowClient

    logs = (
        "class Same(mlflow.pyfunc.PythonModel):\n    def predict(self, model_input: list[float]): return model_input\n"
    )
    logs += "mlflow.pyfunc.log_model(name='model', python_model=Same(), pip_requirements=[])"
    cells = (PARAMETERS, SCORE, logs)
    path, client = make_notebook(*cells), MlflowClient(runs.config.mlflow_uri())
    first, worse, better = (
        runs.wait(runs.submit(runs.prepare(path, parameters={"shift": shift})).run_id) for shift in (0.0, -0.2, 0.05)
    )
    assert [run.state for run in (first, worse, better)] == [RunState.SUCCEEDED] * 3
    model = RegisteredModel(name="churn model")

    def aliases() -> dict[str, str]:
        found = client.get_registered_model("churn model").aliases
        return {alias: str(number) for alias, number in found.items()}  # MLflow's own database tells numbers

    nothing = run_notebook(PARAMETERS, SCORE, name="other.ipynb")
    refused = promoted(promotions, Path(nothing.source), run=nothing, model=model)
    assert refused.record.state is VersionState.REFUSED
    assert "logged no model" in refused.why

    gates = [ENOUGH, ChampionGate(metric="accuracy"), ApprovalGate()]
    waits = promoted(promotions, path, run=first, parameters={"shift": 0.0}, gates=gates, model=model)
    assert waits.record.state is VersionState.PROPOSED
    assert aliases() == {"challenger": "1"}
    with as_user(monkeypatch, "bob"):
        version = promotions.approve("churn").record.version
    assert aliases() == {"challenger": "1", "champion": "1"}
    assert not crown(runs, version, worse)
    assert aliases() == {"challenger": "2", "champion": "1"}
    assert crown(runs, version, better)
    assert crown(runs, version, better)
    assert aliases() == {"challenger": "2", "champion": "3"}
    assert not crown(runs, version, first), "it is worse than the champion of now"
    assert aliases() == {"challenger": "1", "champion": "3"}
    last = promoted(promotions, path, run=better, parameters={"shift": 0.05}, model=model)
    assert last.record.state is VersionState.LIVE
    Firing(runs).trigger("churn")
    with job_scheduler():
        (slot,) = until(
            lambda: SlotStore(runs.store).slots(job="churn", states=[SlotState.SUCCEEDED, SlotState.FAILED])
        )
    assert (slot.state, aliases()["champion"]) == (SlotState.SUCCEEDED, "4"), slot.message
    assert Jobs(runs).rollback("churn", reason="slow").record.version.copy_of == version.number
    assert aliases()["champion"] == "1", "the model of the version that it goes back to"
    found = client.search_model_versions("name = 'churn model'")
    assert sorted(str(one.version) for one in found) == ["1", "2", "3", "4"]
    known = {first.run_id, worse.run_id, better.run_id, slot.run_id}
    assert {one.tags["mlops.run_id"] for one in found} == known


def test_a_notebook_promotes_itself_and_its_clean_run_does_not(runs: Runs, make_notebook: Callable[..., Path]) -> None:
    import nbformat
    from nbclient import NotebookClient

    line = '%mlops promote notebook.ipynb --name churn --every 1h --reason "from the notebook"'
    path = make_notebook(PARAMETERS, "%load_ext jupyter_mlops", line)
    nb = nbformat.read(path, 4)
    NotebookClient(nb, timeout=PATIENCE, resources={"metadata": {"path": str(path.parent)}}).execute()
    told = "".join(output.get("text", "") for output in nb.cells[-1].outputs)
    assert "Version 1 of the job churn is live." in told
    assert "%mlops scheduler run" in told
    (run,) = runs.store.runs()
    executed = nbformat.read(runs.files(run) / "executed.ipynb", 4)
    assert "it does not promote itself" in "".join(output.get("text", "") for output in executed.cells[-1].outputs)
    (entry, *_) = AuditStore(runs.store).entries(action="job.promote")
    assert entry.entry.front == "notebook"


def test_a_promotion_that_is_killed_is_gone_on_with(
    runs: Runs, make_notebook: Callable[..., Path], tmp_path: Path
) -> None:
    gate = tmp_path / "go"
    path = make_notebook(f"import pathlib, time\nwhile not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.2)")
    arguments = ("promote", str(path), "--name", "churn", "--every", "1h")
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyter_mlops.cli", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    store = JobStore(runs.store)
    until(lambda: [one for one in runs.store.runs() if runs.get(one.run_id).state is RunState.RUNNING])
    process.kill()
    process.wait()
    assert store.proposed(["churn", "other"]) == {"churn": (1,)}
    (run,) = runs.store.runs()
    waiting = Promotions(runs).look("churn", 1).waiting
    assert [one.missing for one in waiting] == [f"the clean run {run.run_id} is running"]
    shown = command("jobs", "show", "churn")
    assert "jupyter mlops jobs judge churn --version 1" in shown.stdout
    gate.touch()
    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    assert "Version 1 of the job churn is live." in again.stdout
    assert len(runs.store.runs()) == 1, "the clean run that was there is the one"
    assert len(store.versions("churn")) == 1


def test_what_git_does_not_hold_is_refused_before_anything_runs(
    runs: Runs, promotions: Promotions, make_notebook: Callable[..., Path]
) -> None:
    path = make_notebook(SCORE)
    verdict = promotions.propose(promotions.prepare(path, job="churn", gates=[GitGate(clean=False)]))
    assert verdict.record.state is VersionState.REFUSED
    assert verdict.failed[0].seen == "the notebook is in no git work tree with a commit"
    for arguments in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "x"]):
        subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@example.org", *arguments], cwd=path.parent, check=True
        )
    verdict = promotions.propose(promotions.prepare(path, job="churn", gates=[GitGate(clean=True)]))
    assert verdict.failed[0].seen.endswith(": notebook.ipynb")
    assert runs.store.runs() == []
    with pytest.raises(UsageError, match="is tagged 'data-checks', and a gate"):
        promotions.prepare(path, job="churn", gates=[DataChecksGate()])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--name", "Churn"], "'Churn' is no name of a job"),
        (["--name", "a/../b"], "is no name of a job"),
        (["--name", "-x"], "is no name of a job"),
        (["--name", "a\n"], "is no name of a job"),
        (["--name", "x" * 53], "is no name of a job"),
        (["--schedule", "0 0 31 2 *"], "has no moment"),
        (["--schedule", "@daily", "--every", "1h"], "not both"),
        (["--schedule", "@daily", "--tz", "Europe/Berlln"], "Berlln"),
        (["--every", "soon"], "'soon' is no time"),
        (["--require", "accuracy==1"], "'=='"),
        (["--require-approval", "3:bob"], "3 approvals of 1 people"),
        (["--after", "nosuch"], "There is no job 'nosuch'"),
        (["--after", "churn"], "would start itself"),
        (["--on-file", "s3://key:secret@bucket/x"], "password"),
        (["-p", "shfit=1"], "shift"),
        (["--force", "--reason", "x"], "does not allow to force"),
        (["--from-run", "0000"], "0000"),
        (["--retries", "-1"], "retries"),
    ],
)
def test_bad_input_is_refused_in_a_sentence_and_nothing_is_made(
    runs: Runs, make_notebook: Callable[..., Path], arguments: list[str], words: str
) -> None:
    from click.testing import CliRunner

    from jupyter_mlops.cli.app import mlops

    path = make_notebook(PARAMETERS, SCORE)
    found = CliRunner().invoke(mlops, ["promote", str(path), "--name", "churn", *arguments])
    assert found.exit_code == 2, found.output
    assert words in found.output
    assert JobStore(runs.store).jobs(states=list(JobState)) == []
    assert runs.store.runs() == []
