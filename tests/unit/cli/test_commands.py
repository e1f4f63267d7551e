"""The command tree without running anything: use, refusals, exit codes, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.profile import Profile
from jupyter_mlops.runs import Runs
from jupyter_mlops.spec import FailureCode, RunSpec, RunState


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(mlops, list(arguments), prog_name="jupyter mlops")


def recorded_run(**changes: object) -> RunSpec:
    runs = Runs()
    spec = RunSpec(
        **{
            "name": "n", "notebook": "n.ipynb", "source": "/p/n.ipynb", "snapshot_id": "0" * 64,
            "profile": Profile(name="local"), "experiment": "e", "tracking_uri": "u", "owner": "ann", **changes,
        }
    )  # fmt: skip
    runs.store.add_run(spec)
    runs.store.update_run(
        spec.run_id, state=RunState.FAILED, code=FailureCode.CELL_FAILED, message="[red]no[/red] \x1b[31m",
        end_time=datetime.now(timezone.utc),
    )  # fmt: skip
    return spec


def test_help_names_every_command() -> None:
    result = invoke("--help")
    assert result.exit_code == 0
    for command in ("train", "params", "runs", "show", "logs", "attach", "cancel", "retry", "compare", "diff", "open"):
        assert f"\n  {command} " in result.output


def test_an_unknown_command_names_the_nearest() -> None:
    result = invoke("trian")
    assert result.exit_code == 2
    assert "Did you mean 'train'?" in result.output


def test_a_refusal_is_a_sentence_and_exit_code_2(make_notebook: Callable[..., Path]) -> None:
    path = make_notebook(("lr = 0.1", "parameters"))
    result = invoke("train", str(path), "-p", "lr_=1")
    assert result.exit_code == 2
    assert "lr_" in result.output
    assert "Did you mean 'lr'?" in result.output
    assert "Traceback" not in result.output
    assert not (Path(os.environ["JUPYTER_MLOPS_DATA_DIR"]) / "runs").exists()


@pytest.mark.parametrize("arguments", [["train"], ["train", "missing.ipynb"], ["show", "zz"], ["cancel", "zz"], ["run"],
                                       ["compare", "one"], ["train", "x.ipynb", "--profile", "nope"]])  # fmt: skip
def test_wrong_use_ends_with_2_and_no_traceback(arguments: list[str]) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output


def test_a_dry_run_shows_what_ships_and_starts_nothing(make_notebook: Callable[..., Path]) -> None:
    path = make_notebook(("a = 1", "parameters"), "open('data.csv')")
    (path.parent / "data.csv").write_text("x,y")
    result = invoke("train", str(path), "-p", "a=2", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["parameters"] == {"a": 2}
    assert "data.csv" in found["files"]
    assert not (Path(os.environ["JUPYTER_MLOPS_DATA_DIR"]) / "runs").exists()


def test_lists_and_records_print_json_and_text_without_obeying_markup() -> None:
    spec = recorded_run(name="<script>[bold]x[/bold]")
    (listed,) = json.loads(invoke("runs", "--json").output)
    assert (listed["run_id"], listed["state"], listed["code"]) == (spec.run_id, "failed", "cell_failed")
    shown = invoke("show", spec.run_id[:6]).output
    assert "[red]no[/red]" in shown
    assert "\x1b" not in shown
    assert "[bold]x[/bold]" in invoke("runs").output


def test_runs_are_filtered() -> None:
    recorded_run(name="a")
    recorded_run(name="b", owner="bob")
    assert [run["name"] for run in json.loads(invoke("runs", "--owner", "bob", "--json").output)] == ["b"]
    assert json.loads(invoke("runs", "--state", "running", "--json").output) == []
    assert json.loads(invoke("runs", "--since", "1h", "--notebook", "n.ipynb", "--limit", "1", "--json").output)


def test_profiles_and_settings_are_listed_with_their_help() -> None:
    assert json.loads(invoke("profiles", "--json").output)[0]["name"] == "local"
    assert "local" in invoke("profiles").output
    settings = json.loads(invoke("config", "--json").output)
    assert settings["default_profile"] == "local"
    assert "snapshot_size_limit" in invoke("config").output


def test_nothing_heavy_is_imported_for_help_or_for_the_extension() -> None:
    heavy = {"mlflow", "papermill", "nbformat", "nbclient", "pandas", "numpy", "sqlalchemy", "distributed", "dask",
             "jsonschema", "ipywidgets", "matplotlib", "pydantic", "traitlets", "rich", "requests"}  # fmt: skip
    for code in (
        "from click.testing import CliRunner; from jupyter_mlops.cli.app import mlops; "
        "assert CliRunner().invoke(mlops, ['--help']).exit_code == 0",
        "import jupyter_mlops; jupyter_mlops.load_ipython_extension",
        "import jupyter_mlops.worker",
    ):
        done = subprocess.run(
            [sys.executable, "-c", f"{code}\nimport sys; print(*sorted(m.split('.')[0] for m in sys.modules))"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert not heavy & set(done.stdout.split()), code


def test_the_magic_is_the_same_tree_and_its_errors_are_sentences() -> None:
    code = """
from IPython.testing.globalipapp import start_ipython
shell = start_ipython()
shell.run_line_magic('load_ext', 'jupyter_mlops')
shell.run_line_magic('mlops', 'profiles')
result = shell.run_cell('%mlops show nothing')
assert type(result.error_in_exec).__name__ == 'NotFoundError', result
result = shell.run_cell('%mlops train "unclosed')
assert 'quote' in str(result.error_in_exec.hint)
result = shell.run_cell('%mlops nonsense')
assert 'nonsense' in str(result.error_in_exec)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "This machine" in done.stdout
    assert "There is no run 'nothing'." in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_run_does_not_start_itself_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_MLOPS_RUN_ID", "abc")
    result = invoke("train")
    assert result.exit_code == 0
    assert "does not start itself again" in result.output


def test_a_run_does_not_start_itself_by_its_name_nor_another_one(
    monkeypatch: pytest.MonkeyPatch, make_notebook: Callable[..., Path]
) -> None:
    own, other = make_notebook("1", name="own.ipynb"), make_notebook("1", name="other.ipynb")
    spec = recorded_run()
    monkeypatch.setenv("JUPYTER_MLOPS_RUN_ID", "abc")
    monkeypatch.setenv("JUPYTER_MLOPS_SOURCE", f"/elsewhere/{own.name}")
    result = invoke("train", str(own))
    assert (result.exit_code, "does not start itself again" in result.output) == (0, True)
    for arguments in (["train", str(other), "--detach"], ["train", str(other), "--wait"], ["retry", spec.run_id]):
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        assert "a run does not start another" in result.output
    assert not list((Path(os.environ["JUPYTER_MLOPS_DATA_DIR"]) / "runs").glob("*"))


def test_a_secret_value_is_refused_wherever_it_would_be_recorded(
    monkeypatch: pytest.MonkeyPatch, make_notebook: Callable[..., Path]
) -> None:
    path = make_notebook(("name = 'a'", "parameters"), "1")
    monkeypatch.setenv("MY_API_TOKEN", "supersecret123")
    for arguments in (["-p", "name=xsupersecret123"], ["--tag", "t=supersecret123"], ["--name", "supersecret123"],
                      ["--experiment", "supersecret123"]):  # fmt: skip
        result = invoke("train", str(path), *arguments)
        assert result.exit_code == 2, result.output
        assert "is a secret" in result.output
        assert "supersecret" not in result.output
    assert not (Path(os.environ["JUPYTER_MLOPS_DATA_DIR"]) / "runs").exists()


def test_a_tokenizer_is_no_secret_and_a_token_is_one(make_notebook: Callable[..., Path]) -> None:
    path = make_notebook(("tokenizer = 'bert'\nhf_token = ''", "parameters"), "1")
    assert invoke("train", str(path), "-p", "tokenizer=gpt2", "--dry-run").exit_code == 0
    assert invoke("train", str(path), "-p", "hf_token=gpt2", "--dry-run").exit_code == 2


def test_runs_of_a_notebook_are_those_of_this_very_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "project"
    here.mkdir()
    (here / "wine.ipynb").touch()
    monkeypatch.chdir(here)
    recorded_run(name="mine", source=str(here / "wine.ipynb"))
    recorded_run(name="other", source="/elsewhere/wine.ipynb")

    def found(notebook: str) -> set[str]:
        return {run["name"] for run in json.loads(invoke("runs", "--notebook", notebook, "--json").output)}

    assert found("./wine.ipynb") == found("wine.ipynb") == {"mine"}
    assert found("elsewhere/wine.ipynb") == {"other"}
    assert found("ine.ipynb") == set()


def test_the_page_of_mlflow_is_not_opened_to_be_printed_and_a_taken_port_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = invoke("ui", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 2
    assert "cannot be used" in result.output
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:pw@127.0.0.1:9/")
    result = invoke("ui", "--print")
    assert (result.exit_code, result.output.strip()) == (0, "http://127.0.0.1:9/")
