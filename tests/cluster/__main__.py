"""The command line: `python -m tests.cluster --help`."""

from __future__ import annotations

import functools
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import image, lifecycle, network, requirements
from .binaries import kubernetes
from .cache import ClusterError, say
from .places import NAME_VARIABLE, NODE_ADDRESS, OTHER_CLUSTER_VARIABLE, Place, place

if TYPE_CHECKING:
    from collections.abc import Callable


class _Commands(click.Group):
    """Shows what went wrong with the cluster as a sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ClusterError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands)
@click.option(
    "--name", envvar=NAME_VARIABLE, default="mlops", show_default=True, help="Which of several test clusters."
)
@click.pass_context
def main(ctx: click.Context, name: str) -> None:
    """A real Kubernetes of one node for the tests, in a network of its own."""
    try:
        ctx.obj = place(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--name") from error


def _on_a_node(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its node, where there can be one."""

    @click.pass_obj
    @functools.wraps(function)
    def command(place: Place, /, **arguments: Any) -> None:
        if reasons := requirements.wrong_machine():
            raise lifecycle.MissingError(reasons)
        function(place, **arguments)

    return command


@main.command()
@_on_a_node
def up(place: Place) -> None:
    """Bring it up; builds and installs what is missing. Does nothing when it is up."""
    if not lifecycle.up(place):
        say(f"'{place.name}' is up already")


@main.command()
@_on_a_node
def down(place: Place) -> None:
    """Take it away with everything that belongs to it, also after a crash."""
    lifecycle.down(place)
    say(f"'{place.name}' is down")


@main.command()
@_on_a_node
def status(place: Place) -> None:
    """Say whether it is up; exit status 1 if not."""
    why = lifecycle.why_not_whole(place)
    click.echo(f"{place.name}: {f'not up: {why}' if why else 'up'}")
    if place.logs.exists():
        click.echo(f"logs: {place.logs}")
    sys.exit(1 if why else 0)


@main.command()
@_on_a_node
def env(place: Place) -> None:
    """Print what a shell needs to talk to it: eval "$(python -m tests.cluster env)"."""
    pid = lifecycle.process(place)
    enter = f"nsenter --net=/proc/{pid}/ns/net"
    click.echo(f"export KUBECONFIG={shlex.quote(str(place.admin_kubeconfig))}")
    click.echo(f"export JUPYTER_MLOPS_TEST_NODE_ADDRESS={NODE_ADDRESS}")
    click.echo(f"alias in-cluster={shlex.quote(enter)}")
    click.echo(f"alias kubectl={shlex.quote(f'{enter} {kubernetes()}/kubectl')}")


@main.command("exec", context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@_on_a_node
def execute(place: Place, command: tuple[str, ...]) -> None:
    """Run a command in its network, as administrator: exec kubectl get nodes."""
    pid = lifecycle.process(place)
    os.environ["KUBECONFIG"] = str(place.admin_kubeconfig)
    os.environ["PATH"] = f"{kubernetes()}{os.pathsep}{os.environ['PATH']}"
    with network.entered(pid):
        os.execvp(command[0], command)


@main.command("load-image")
@click.argument("archive", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_on_a_node
def load_image(place: Place, archive: Path) -> None:
    """Give it an image, as `docker save` or `buildah push` wrote it."""
    lifecycle.process(place)
    image.load(place, archive)


@main.command("build-image")
@click.argument("name")
@click.argument("dockerfile", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--input", "inputs", multiple=True, metavar="NAME=FILE", help="A file that the Dockerfile may COPY.")
@click.option("--build-arg", "arguments", multiple=True, metavar="NAME=VALUE", help="A build argument; no secrets.")
def build_image(name: str, dockerfile: Path, inputs: tuple[str, ...], arguments: tuple[str, ...]) -> None:
    """Build an image on the Debian base and print its tag and file."""
    built = image.build(
        name,
        dockerfile,
        {key: Path(value) for key, _, value in (pair.partition("=") for pair in inputs)},
        {key: value for key, _, value in (pair.partition("=") for pair in arguments)},
    )
    click.echo(f"{built.tag}\n{built.archive}")


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def test(place: Place, pytest_arguments: tuple[str, ...]) -> None:
    """Bring it up, run the cluster tests, take it away, also when they fail.

    Where it cannot be, say what is missing and skip; with CI set in the environment that is a failure.
    """
    other = os.environ.get(OTHER_CLUSTER_VARIABLE)
    if other:
        say(f"Using the cluster of {other} ({OTHER_CLUSTER_VARIABLE})")
        sys.exit(_pytest(place, pytest_arguments))
    reasons = requirements.missing()
    if reasons:
        error = lifecycle.MissingError(reasons)
        if os.environ.get("CI"):
            raise error
        say(f"Skipped: {error}")
        say(f"To use a cluster of your own (kind, k3d, minikube): {OTHER_CLUSTER_VARIABLE}=FILE make test-cluster")
        return
    # Asked to end kindly, end in order: the cluster must not stay.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    was_up = not lifecycle.why_not_whole(place)
    try:
        lifecycle.up(place)
        image.base()  # here, where nothing limits the time it takes
        status = _pytest(place, pytest_arguments)
    finally:
        if not was_up:
            lifecycle.down(place)
    sys.exit(status)


def _pytest(place: Place, arguments: tuple[str, ...]) -> int:
    command = [sys.executable, "-m", "pytest", "tests/cluster", "-m", "cluster", *arguments]
    return subprocess.run(command, check=False, env={**os.environ, NAME_VARIABLE: place.name}).returncode


if __name__ == "__main__":
    main(prog_name="python -m tests.cluster")
