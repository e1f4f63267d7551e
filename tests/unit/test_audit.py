"""Entries of the audit log hold who, when, from where, and no secret."""

from __future__ import annotations

import os
import socket

import pytest
from sqlalchemy import text

from jupyter_mlops.audit import Auditor
from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import StoreError
from jupyter_mlops.profile import Profile
from jupyter_mlops.runs import Runs
from tests.unit.store.cases import spec


def test_an_entry_names_the_person_the_place_and_masks_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTERHUB_USER", "ann")
    monkeypatch.setenv("DB_PASSWORD", "hunter2-hunter2")
    made = Auditor(MLOps(), "notebook").entry(
        "job.promote",
        "job hunter2-hunter2",
        reason="with hunter2-hunter2",
        deep={"a": ["hunter2-hunter2"]},
        long="x" * 9999,
    )
    assert (made.who, made.host, made.process, made.front) == ("ann", socket.gethostname(), os.getpid(), "notebook")
    assert "hunter2" not in repr(made)
    assert made.details["deep"] == {"a": ["***"]}
    assert len(made.details["long"]) < 3000


class NoRunner:
    """Takes a run and does nothing with it."""

    def __init__(self, config: MLOps) -> None:
        self.files = config.run_dir

    def check(self, spec: object) -> None: ...

    def submit(self, spec: object) -> None: ...

    def cancel(self, run_id: str, *, by: str) -> None: ...


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    from jupyter_mlops import runs as module

    monkeypatch.setattr(module, "get_runner", lambda name, config: NoRunner(config))
    monkeypatch.setattr(Runs, "get", lambda self, name: self.store.run(name))
    return Runs(front="terminal")


def test_what_is_done_with_runs_is_in_the_log(runs: Runs) -> None:
    profile = Profile(name="gpu", env_from_secrets=("mlflow-login",))
    record = runs.submit_spec(spec(profile=profile, run_key="k"))
    assert runs.submit_spec(spec(profile=profile, run_key="k")).run_id == record.run_id
    again = runs.retry(record.run_id)
    runs.cancel(again.run_id)
    log = runs.audit.log(runs.store)
    assert log.verify().problems == ()
    cancelled, retried, submitted = [logged.entry for logged in log.entries()]
    assert (submitted.action, submitted.object) == ("run.submit", f"run {record.run_id}")
    assert submitted.details["secrets"] == ["mlflow-login"]
    assert (retried.action, retried.details["retry_of"]) == ("run.retry", record.run_id)
    assert (cancelled.action, cancelled.object, cancelled.front) == ("run.cancel", f"run {again.run_id}", "terminal")


def test_no_run_starts_without_its_entry(runs: Runs) -> None:
    refused = spec()
    with runs.store.writing() as session:
        session.execute(text("CREATE TRIGGER broken BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'no'); END"))
    with pytest.raises(StoreError):
        runs.submit_spec(refused)
    assert runs.store.runs() == []
    assert not runs.config.run_dir(refused.run_id).exists()
