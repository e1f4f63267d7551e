"""Sending what waits for MLflow."""

from __future__ import annotations

from jupyter_mlops.config import MLOps
from jupyter_mlops.engine.publish import PENDING_FILE, publish_pending


def test_a_run_that_has_not_ended_is_not_sent_as_one_that_died() -> None:
    config = MLOps()
    run_dir = config.run_dir("abc123")
    run_dir.mkdir(parents=True)
    (run_dir / PENDING_FILE).touch()
    (run_dir / "events.jsonl").write_text("")
    said: list[str] = []
    assert publish_pending(config, told=said.append) == 0
    assert (run_dir / PENDING_FILE).exists()
    assert said == []
