"""Commands about kernels in pods: the kernelspecs of this machine, and the pods that there are."""

from __future__ import annotations

from typing import Any

import click

from .group import MLOpsGroup, front


@click.group(cls=MLOpsGroup)
def kernels() -> None:
    """Python kernels in pods, for the launcher and for `papermill -k`."""


@kernels.command("install")
@click.argument("names", metavar="[PROFILE]...", nargs=-1)
@click.option("--sys-prefix", is_flag=True, help="For all users of this Python, and not only for you.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def install_command(ctx: click.Context, names: tuple[str, ...], sys_prefix: bool, as_json: bool) -> None:
    """Write a kernelspec for each PROFILE; without a name, for each profile on Kubernetes.

    What a profile says is read when a kernel starts: after a change of it there is nothing to be done.
    """
    from ..kernels.specs import chosen_profiles, install

    here = front(ctx)
    found = [install(profile, sys_prefix=sys_prefix) for profile in chosen_profiles(here.runs.config, names)]
    if as_json:
        here.data([each.as_dict() for each in found])
        return
    for each in found:
        here.say(f"{each.name}: {each.display_name}, in {each.directory}")


@kernels.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_command(ctx: click.Context, as_json: bool) -> None:
    """Show the kernelspecs for pods, and your kernels in pods with how each stands and why."""
    from ..kernels.running import running_kernels
    from ..kernels.specs import installed
    from .tables import kernels_table, kernelspecs_table

    here = front(ctx)
    specs = installed()
    kernels_, problems = running_kernels(here.runs.config)
    if as_json:
        here.data({
            "kernelspecs": [each.as_dict() for each in specs], "kernels": [each.as_dict() for each in kernels_],
            "problems": problems,
        })  # fmt: skip
        return
    if specs:
        here.show(kernelspecs_table(specs))
    else:
        here.say("There are no kernelspecs for pods. `jupyter mlops kernels install` writes them.")
    if kernels_:
        here.show(kernels_table(kernels_))
    else:
        here.say("You have no kernels in pods.")
    here.say(*problems)


@kernels.command("remove")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.pass_context
def remove_command(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Take the kernelspecs of these NAMEs (or profiles) away; without a name, all for pods. No kernel is ended."""
    from ..kernels.specs import remove

    here = front(ctx)
    for each in remove(names):
        here.say(f"Removed {each.name} from {each.directory}.")


COMMANDS: tuple[Any, ...] = (kernels,)
