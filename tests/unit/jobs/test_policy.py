"""What a policy asks of a promotion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jupyter_mlops.config import load_config
from jupyter_mlops.errors import ConfigError
from jupyter_mlops.jobs.gate import ApprovalGate, CleanRunGate, DataChecksGate, GitGate, ImageGate, MetricGate
from jupyter_mlops.jobs.policy import demand

POLICY: dict[str, Any] = {
    "*": {"git": "known", "allow_force": True},
    "prod-*": {
        "approvals": 2,
        "approvers": ["bob", "cat"],
        "git": "clean",
        "image_digest": True,
        "metrics": ["auc>0.5"],
    },
    "lab-*": {"profiles": ["gpu*"], "data_checks": "checks", "allow_force": True},
}


def test_without_a_policy_only_the_clean_run_is_asked_for_and_nothing_is_forced() -> None:
    found = demand({}, "churn", ["local"])
    assert found.gates == (CleanRunGate(),)
    assert not found.may_force


def test_every_rule_that_fits_is_asked_for() -> None:
    found = demand(POLICY, "prod-churn", ["local"])
    assert set(found.gates) == {
        CleanRunGate(), GitGate(clean=False), GitGate(clean=True), ImageGate(),
        MetricGate(metric="auc", operator=">", threshold=0.5), ApprovalGate(count=2, by=("bob", "cat")),
    }  # fmt: skip
    assert found.gates[-1].kind == "approval"


@pytest.mark.parametrize(
    ("job", "profile", "may_force"),
    [("churn", "local", True), ("prod-churn", "local", False), ("lab-a", "gpu-large", True), ("lab-a", "local", True)],
)
def test_force_is_allowed_only_where_every_rule_that_fits_says_so(job: str, profile: str, may_force: bool) -> None:
    assert demand(POLICY, job, [profile]).may_force is may_force


def test_a_rule_for_profiles_fits_jobs_with_a_step_on_one() -> None:
    assert DataChecksGate(tag="checks") in demand(POLICY, "lab-a", ["local", "gpu-large"]).gates
    assert DataChecksGate(tag="checks") not in demand(POLICY, "lab-a", ["local"]).gates


def test_approvers_without_a_number_are_one() -> None:
    assert ApprovalGate(count=1, by=("bob",)) in demand({"*": {"approvers": ["bob"]}}, "a", ["p"]).gates


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"aprovals": 1}, "unknown 'aprovals'"),
        ({"approvals": -1}, "approvals"),
        ({"git": "pristine"}, "git"),
        ({"metrics": ["accuracy==1"]}, "'=='"),
        (["approvals"], "no dict"),
    ],
)
def test_a_wrong_rule_is_told_also_when_it_does_not_fit_the_job(rule: Any, words: str) -> None:
    with pytest.raises(ConfigError) as told:
        demand({"other-*": rule}, "churn", ["local"])
    assert words in told.value.message
    assert "promotion_policy" in told.value.message


def test_a_users_file_adds_to_the_systems_policy_and_does_not_take_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    user, system = tmp_path / "config", tmp_path / "system"
    for directory, text in (
        (system, "c.MLOps.promotion_policy = {'*': {'approvals': 1}}"),
        (user, "c.MLOps.promotion_policy = {'*': {'allow_force': True}, 'mine': {'git': 'known'}}"),
    ):
        directory.mkdir(exist_ok=True)
        (directory / "jupyter_mlops_config.py").write_text(text)
    monkeypatch.setattr("jupyter_core.paths.SYSTEM_CONFIG_PATH", [str(system)])
    monkeypatch.setattr("jupyter_core.paths.ENV_CONFIG_PATH", [])
    policy = load_config().promotion_policy
    assert policy == {"*": {"approvals": 1}, "mine": {"git": "known"}}
    found = demand(policy, "mine", ["local"])
    assert {ApprovalGate(count=1), GitGate(clean=False)} < set(found.gates)
    assert not found.may_force
