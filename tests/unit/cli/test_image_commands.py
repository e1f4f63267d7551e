"""`image build` and `image push` without a builder: what is shown, what is refused, what is written."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from jupyter_mlops.cli.app import mlops
from jupyter_mlops.cli.front import TerminalFront
from jupyter_mlops.cli.image_commands import _environment
from jupyter_mlops.profile import Profile
from jupyter_mlops.snapshot import Snapshot, SnapshotFile, SnapshotStore
from jupyter_mlops.snapshot.environment import read_environment
from jupyter_mlops.spec import RunSpec


def invoke(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(mlops, ["image", *arguments], prog_name="jupyter mlops")


def dry(*arguments: str) -> dict[str, object]:
    result = invoke("build", "-t", "r.example.org/team/train:1", "--dry-run", "--json", *arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_a_dry_run_shows_what_the_image_of_this_environment_would_be() -> None:
    import dask

    found = dry()
    python = "{}.{}".format(*sys.version_info)
    assert found["image"] == "r.example.org/team/train:1"
    assert found["base"] == {"name": f"docker.io/library/python:{python}-slim-bookworm", "digest": ""}
    assert found["versions"]["dask"] == dask.__version__  # type: ignore[index]
    assert f"dask=={dask.__version__}" in found["packages"]  # type: ignore[operator]
    assert f"--build-arg=DASK_VERSION={dask.__version__}" in found["command"]  # type: ignore[operator]


def test_the_text_names_what_is_in_no_index_and_the_command() -> None:
    result = invoke("build", "-t", "r.example.org/train:1", "--dry-run", "--builder", "podman", "--base", "b:1")
    assert result.exit_code == 0, result.output
    assert "Base: b:1" in result.stdout
    assert "It would be built with: podman build" in result.stdout
    assert "jupyter-mlops" in result.stdout


def test_a_notebook_a_run_and_a_snapshot_each_name_their_environment(make_notebook: Callable[..., Path]) -> None:
    path = make_notebook("x = 1")
    front = TerminalFront()
    own, _ = read_environment()
    assert _environment(front, str(path)) == own

    other = own.model_copy(update={"python": "3.10.1"})
    notebook = SnapshotFile(path="n.ipynb", size=2, sha256=hashlib.sha256(b"{}").hexdigest(), reason="notebook")
    snapshot = Snapshot.of(
        notebook="n.ipynb", files=[notebook], environment=other, git=None, seed=0, sources={"n.ipynb": b"{}"}
    )
    SnapshotStore(front.runs.config.data_path).save(snapshot)
    spec = RunSpec(
        name="n", notebook="n.ipynb", source="/p/n.ipynb", snapshot_id=snapshot.id, profile=Profile(name="local"),
        experiment="e", tracking_uri="u", owner="ann",
    )  # fmt: skip
    front.runs.store.add_run(spec)
    for name in (snapshot.short_id, "@last", spec.run_id, spec.run_id[:6]):
        assert _environment(front, name) == other
    assert dry(snapshot.short_id)["versions"]["python"] == "3.10"  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["build"], "Missing option '-t'"),
        (["build", "-t", "x"], "has no tag"),
        (["build", "-t", "x:1", "--base", "not an image"], "no image"),
        (["build", "-t", "x:1", "nowhere"], "There is no notebook, run or snapshot 'nowhere'"),
        (["build", "-t", "x:1", "@last"], "There is no run yet"),
        (["build", "-t", "x:1", "--without", "no-such"], "no such package"),
        (["build", "-t", "x:1", "--build-arg", "APT_PACKAGES=$(id)"], "no name of a Debian package"),
        (["build", "-t", "x:1", "--builder", "kaniko"], "'kaniko' is not one of"),
        (["push", "x:1"], "names no registry"),
        (["push", "r.example.org/x"], "has no tag"),
        (["pull", "x:1"], "There is no command 'pull'. The commands are: build, push."),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_code_2(arguments: list[str], says: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert says in result.output
    assert "Traceback" not in result.output


def test_without_a_builder_nothing_is_made_and_the_person_reads_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for arguments in (["build", "-t", "r.example.org/x:1"], ["push", "r.example.org/x:1"]):
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        assert "Nothing on this machine can build an image." in result.output
        assert "apt-get install buildah" in result.output


def test_the_context_is_written_for_a_build_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no builder, and none is needed
    target = tmp_path / "-context"
    result = invoke("build", "-t", "r.example.org/x:1", "--write-context", str(target), "--without", "pip", "--json")
    assert result.exit_code == 0, result.output
    lock = (target / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("mlflow==") for line in lock)
    assert not any(line.startswith("pip==") for line in lock)
    found = json.loads(result.stdout)
    assert found["command"][0] == "docker"
    assert found["command"][-1] == str(target)
    wheels = (target / "wheels" / "wheels.txt").read_text().split()
    assert all((target / "wheels" / name).is_file() for name in wheels)
    assert len(wheels) == len(found["projects"])


def test_help_is_there_in_a_notebook_too_and_errors_are_the_commands_own() -> None:
    code = """
from IPython.testing.globalipapp import start_ipython
shell = start_ipython()
shell.run_line_magic('load_ext', 'jupyter_mlops')
shell.run_cell('%mlops image')
shell.run_cell('%mlops image build -t r.example.org/x:1 --dry-run')
result = shell.run_cell('%mlops image push x:1')
assert 'names no registry' in str(result.error_in_exec), result
result = shell.run_cell('%mlops image biuld')
assert "Did you mean 'build'" in str(result.error_in_exec), result
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Commands:" in done.stdout
    assert "It would be built with: " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
