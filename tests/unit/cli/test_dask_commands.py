from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.config import MLOps
from jupyter_mlops.warm import known

from ..test_cluster_spec import cluster


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "200"}).invoke(mlops, list(arguments), prog_name="jupyter mlops")


def test_without_clusters_the_list_says_how_to_start_one() -> None:
    result = invoke("cluster", "list")
    assert (result.exit_code, result.output) == (
        0, "There are no clusters. Start one: jupyter mlops cluster start\n",
    )  # fmt: skip
    assert json.loads(invoke("cluster", "list", "--json").output) == []


def test_a_cluster_whose_head_died_is_not_listed_and_forgotten() -> None:
    found = known.remember(MLOps(), cluster(), {})
    known.write_private(found.directory / known.HEAD_FILE, json.dumps({
        "pid": 2**22 - 1, "born": "another boot 1", "host": __import__("socket").gethostname(), "address": "tls://x",
        "http": "http://x",
    }).encode())  # fmt: skip
    assert json.loads(invoke("cluster", "list", "--json").output) == []
    assert not found.directory.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("stop",), "Which cluster?"),
        (("stop", "a", "--all"), "Which cluster?"),
        (("stop", "a"), "There is no cluster 'a'"),
        (("scale", "a", "0"), "0 is not in the range"),
        (("scale", "nothing", "2"), "There is no cluster 'nothing'"),
        (("dashboard", "a"), "There is no cluster 'a'"),
        (("start", "--lifetime", "long"), "--lifetime 'long' is no time"),
        (("start", "--name", "../up"), "is no name for a cluster"),
        (("start", "--profile", "none"), "There is no profile 'none'"),
        (("start", "--cpus", "100000"), "100000 CPU cores"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence_and_creates_nothing(arguments: tuple[str, ...], said: str) -> None:
    result = invoke("cluster", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert known.all_known(MLOps()) == []


def test_a_run_on_a_cluster_takes_its_resources_and_no_others(make_notebook: Callable[..., Path]) -> None:
    notebook = str(make_notebook("x = 1"))
    result = invoke("train", notebook, "--cluster", "gpus", "--gpus", "2")
    assert result.exit_code == 2
    assert "--gpus says nothing" in result.stderr
    missing = invoke("train", notebook, "--cluster", "gpus")
    assert missing.exit_code == 2
    assert "There is no cluster 'gpus'" in missing.stderr
