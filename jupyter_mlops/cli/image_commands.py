"""Commands about container images: build one from an environment, push it to a registry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .group import MLOpsGroup, front

if TYPE_CHECKING:
    from ..image.lock import Contents
    from ..image.projects import Project
    from ..snapshot import Environment

_BUILDERS = ("buildah", "docker", "podman")


@click.group(cls=MLOpsGroup)
def image() -> None:
    """Make the container image that runs on Kubernetes are started from."""


@image.command()
@click.argument("source", required=False, metavar="[RUN|NOTEBOOK|SNAPSHOT]")
@click.option("-t", "--tag", required=True, metavar="NAME:TAG",
              help="Name of the image, with its registry: registry.example.org/team/train:1.")  # fmt: skip
@click.option("--gpu", is_flag=True, help="Add what runs on NVIDIA GPUs need: CUDA's libraries and Dask-CUDA.")
@click.option("--base", metavar="IMAGE", help="Image to build on. Default: the public one with the same Python.")
@click.option("--builder", type=click.Choice(_BUILDERS), help="Who builds. Default: the first that is here.")
@click.option("--build-arg", "build_args", multiple=True, metavar="NAME=VALUE",
              help="Argument of the build, such as APT_PACKAGES=libgomp1.")  # fmt: skip
@click.option("--without", multiple=True, metavar="PACKAGE", help="Leave a package of the environment out.")
@click.option("--write-context", metavar="DIRECTORY", help="Write the build context there, for a build elsewhere.")
@click.option("--dry-run", is_flag=True, help="Show what would be built, build nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; the builder's output goes to standard error.")
@click.pass_context
def build(
    ctx: click.Context,
    source: str | None,
    tag: str,
    gpu: bool,
    base: str | None,
    builder: str | None,
    build_args: tuple[str, ...],
    without: tuple[str, ...],
    write_context: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Build an image with the packages that a run, a notebook or a snapshot has.

    Without one it has those of this environment. The notebook itself and its files are not in it: they travel with each
    run.
    """
    from ..image.build import build_image, prepare_context, secret_files
    from ..image.builders import build_command, find_builder
    from ..image.lock import contents_of, default_base, this_product
    from ..image.pip_settings import read_pip_settings
    from ..image.plan import Base, build_arguments, given_arguments, image_name, shown_command
    from ..image.projects import find_projects
    from ..snapshot.environment import read_environment

    here = front(ctx)

    def say(line: str) -> None:
        if as_json:
            _say_beside(line)
        else:
            here.say(line)

    image_name(tag)
    given = given_arguments(build_args)
    own, _ = read_environment()
    environment = _environment(here, source) if source else own
    contents = contents_of(environment, product=this_product(own), gpu=gpu, without=without)
    projects = find_projects(contents.projects)
    base = image_name(base, tagged=False) if base else default_base(contents)
    chosen = find_builder(builder, needed=not (dry_run or write_context))
    pip = read_pip_settings()
    answer = {
        "image": tag,
        "base": {"name": base, "digest": ""},
        "variant": "gpu" if gpu else "cpu",
        "lock": f"sha256:{contents.digest}",
        "versions": dict(contents.versions),
        "packages": [*contents.pinned, *contents.additions],
        "projects": [{"name": project.name, "path": str(project.path)} for project in projects],
        "builder": chosen,
    }
    for line in _description(environment, contents, projects, base, (*contents.notes, *pip.notes)):
        say(line)
    if dry_run or write_context:
        directory = Path(write_context).absolute() if write_context else Path("context")
        if write_context and not dry_run:
            contents = prepare_context(contents, projects, directory, say)
            say(f"The build context is in {write_context}.")
        command = build_command(
            chosen,
            tag=tag,
            arguments=build_arguments(contents, Base(base), given),
            secrets=secret_files(pip),
            context=str(directory),
        )
        say(f"{'To build it' if write_context else 'It would be built with'}: {shown_command(command)}")
        if as_json:
            here.data({**answer, "versions": dict(contents.versions), "command": command})
        return
    built = build_image(contents, projects, tag=tag, base=base, given=given, builder=chosen, pip=pip, say=say)
    if as_json:
        base_answer = {"name": built.base.name, "digest": built.base.digest}
        here.data({**answer, "base": base_answer, "id": built.image_id, "size": built.size})
        return
    here.say(
        f"Built {tag}" + (f", {built.size}" if built.size else "") + f" ({built.image_id})",
        "Push it, which gives the digest that a profile takes: "
        f"jupyter mlops image push {tag}" + (f" --builder {builder}" if builder else ""),
    )


@image.command()
@click.argument("tag", metavar="NAME:TAG")
@click.option("--builder", type=click.Choice(_BUILDERS), help="Who built it. Default: the first that is here.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; the builder's output goes to standard error.")
@click.pass_context
def push(ctx: click.Context, tag: str, builder: str | None, as_json: bool) -> None:
    """Send an image to its registry, and tell the digest that a profile takes.

    The credentials are the builder's own: log in with it first, as with `buildah login registry.example.org`.
    """
    from ..image.build import push_image
    from ..image.builders import find_builder
    from ..image.plan import image_name, pushable

    here = front(ctx)
    name = pushable(image_name(tag))
    reference = push_image(name, builder=find_builder(builder), say=_say_beside if as_json else here.say)
    if as_json:
        here.data({"image": name, "digest": reference.partition("@")[2], "reference": reference})
        return
    here.say(
        f"Pushed {name}",
        "In jupyter_mlops_config.py, a profile takes it by its digest, which no later push changes:",
        f'    "image": "{reference}"',
    )


def _environment(here: Any, source: str) -> Environment:
    """The environment of a notebook's kernel, of a run's snapshot, or of a snapshot."""
    from ..errors import NotFoundError
    from ..snapshot import SnapshotStore

    path = Path(source)
    if path.suffix == ".ipynb" or path.is_file():
        return _kernel_environment(path)
    store = SnapshotStore(here.runs.config.data_path)
    try:
        return store.load(here.runs.get(source).snapshot_id).environment
    except NotFoundError as no_run:
        if source.startswith("@"):
            raise
        try:
            return store.load(source).environment
        except NotFoundError:
            raise NotFoundError(
                f"There is no notebook, run or snapshot '{source}' ({no_run.message.rstrip('.')}).",
                hint="`jupyter mlops runs` lists the runs; without one, the image gets this environment's packages.",
            ) from None


def _kernel_environment(path: Path) -> Environment:
    from jupyter_client.kernelspec import KernelSpecManager

    from ..notebook.document import read_notebook, resolve_kernel
    from ..snapshot.environment import read_environment

    name = resolve_kernel(read_notebook(path), None)
    program = (KernelSpecManager().get_kernel_spec(name).argv or [""])[0]
    # A program without a path is found on ours: it is this interpreter.
    environment, _ = read_environment(program if Path(program).is_absolute() else None)
    return environment


def _description(
    environment: Environment, contents: Contents, projects: tuple[Project, ...], base: str, notes: tuple[str, ...]
) -> list[str]:
    count = len(contents.pinned) + len(contents.additions) + len(projects)
    lines = [
        f"Environment: {environment.implementation} {environment.python} on {environment.platform}, {count} packages",
        *(f"  {project.name} {project.version}, in no index: from {project.path}" for project in projects),
        f"Base: {base}",
        *(f"Note: {note}" for note in notes),
    ]
    if contents.libraries:
        lines.append(f"Debian packages that they need: {' '.join(contents.libraries)}")
    return lines


def _say_beside(line: str) -> None:
    from ..progress.state import printable

    click.echo(printable(line), err=True)


COMMANDS = (image,)
