"""What is free, rights, and the doctor: use, refusals and exit codes, without a Kubernetes."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from rich.console import Console

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.cli.tables import capacity_table, checks_table
from jupyter_mlops.doctor.check import Check, State
from jupyter_mlops.kubernetes.capacity import Capacity, Kind, Use
from jupyter_mlops.kubernetes.nodes import Holder
from jupyter_mlops.kubernetes.rights import (
    Subject,
    binding_manifest,
    cluster_manifests,
    interactive_manifests,
    role_manifest,
)


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(mlops, list(arguments), prog_name="jupyter mlops")


def configure(**profiles: dict[str, Any]) -> None:
    directory = Path(os.environ["JUPYTER_CONFIG_DIR"])
    directory.mkdir(exist_ok=True)
    (directory / "jupyter_mlops_config.py").write_text(f"c.MLOps.profiles = {profiles!r}\n")


def printed(table: object) -> str:
    console = Console(file=StringIO(), width=200)
    console.print(table)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_rights_are_printed_as_the_manifests_that_the_product_itself_checks() -> None:
    for option, name, subject in (
        ("--service-account", "ann", Subject("ServiceAccount", "ann", "team-a")),
        ("--service-account", "hub/ann", Subject("ServiceAccount", "ann", "hub")),
        ("--user", "ann: [x]\n- y", Subject("User", "ann: [x]\n- y")),
        ("--group", "ml", Subject("Group", "ml")),
    ):
        result = invoke("rbac", "--namespace", "team-a", option, name)
        assert result.exit_code == 0, result.output
        assert list(yaml.safe_load_all(result.output)) == [
            role_manifest(namespace="team-a"), binding_manifest(subject, namespace="team-a"),
        ]  # fmt: skip
    more = invoke("rbac", "--namespace", "team-a", "--group", "ml", "--all-namespaces")
    assert list(yaml.safe_load_all(more.output))[2:] == list(cluster_manifests(Subject("Group", "ml")))
    more = invoke("rbac", "--namespace", "team-a", "--group", "ml", "--interactive")
    assert list(yaml.safe_load_all(more.output))[2:] == list(
        interactive_manifests(Subject("Group", "ml"), namespace="team-a")
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rbac", "--namespace", "a", "--user", "x", "--group", "y"), "More than one"),
        (("rbac", "--namespace", "A b", "--user", "x"), "no name of a namespace"),
        (("rbac", "--namespace", "a", "--service-account", "x/y/z"), "no service account"),
        (("rbac", "--namespace", "a", "--user", " "), "empty"),
        (("rbac",), "no kubeconfig"),
        (("capacity",), "No profile is on Kubernetes"),
        (("capacity", "--profile", "local"), "is not on Kubernetes"),
        (("doctor", "--profile", "nope"), "no profile 'nope'"),
    ],
)
def test_wrong_use_ends_with_2_and_a_sentence(arguments: tuple[str, ...], words: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert "Traceback" not in result.output


def test_several_kubernetes_must_be_chosen_from() -> None:
    configure(one={"runner": "kubernetes", "context": "a"}, two={"runner": "kubernetes", "context": "b"})
    result = invoke("capacity")
    assert result.exit_code == 2
    assert "one, two" in result.output


def test_the_doctor_ends_with_1_where_there_is_a_problem_and_says_what_to_do() -> None:
    configure(far={"runner": "kubernetes"})
    result = invoke("doctor", "--profile", "far", "--json")
    assert result.exit_code == 1
    found = {check["name"]: check for check in json.loads(result.output)}
    assert found["image"]["state"] == "problem"
    assert "image build" in found["image"]["remedy"]
    assert found["packages"]["state"] == "ok"
    assert "-> " in invoke("doctor", "--profile", "far").output


def test_the_doctor_reads_a_broken_configuration_as_a_finding() -> None:
    configure()
    (Path(os.environ["JUPYTER_CONFIG_DIR"]) / "jupyter_mlops_config.py").write_text("1 / 0")
    result = invoke("doctor", "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)[0]["name"] == "settings"
    assert "ZeroDivisionError" in json.loads(result.output)[0]["message"]


def test_tables_show_what_is_not_known_and_obey_no_markup() -> None:
    hostile = Holder("r1", "[red]\x1b[31mann", True, {"nvidia.com/gpu": Decimal(3)})
    kind = Kind("nvidia.com/gpu", "H100", total=8, quota=4, quota_left=1, uses=(Use(hostile, 3),))
    text = printed(capacity_table(Capacity((kind,), ("pods",))))
    assert "H100 (nvidia.com/gpu)" in text
    assert "1 of 4" in text
    assert "?" in text
    assert "[red]" in text
    assert "\x1b" not in text
    checks = printed(checks_table([Check("store", State.PROBLEM, "[b]no\x1b", "do\nthis")]))
    assert "[b]no" in checks
    assert "\x1b" not in checks
    assert "-> do" in checks
