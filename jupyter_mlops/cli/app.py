"""The root of the command tree, and how errors leave it."""

from __future__ import annotations

from typing import Any

import click

from .._version import __version__
from ..errors import MLOpsError
from .front import Front, TerminalFront


class MLOpsGroup(click.Group):
    """A group whose commands end with the person's sentence and a documented exit code, never with our traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use, as they were added."""
        return list(self.commands)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """An unknown command names the nearest."""
        from ..errors import nearest

        if args and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"There is no command '{args[0]}'. {nearest(args[0], self.commands, noun='command')}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Errors become one sentence and an exit code, in a terminal; a magic gets the error itself."""
        if not isinstance(front(ctx), TerminalFront):
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except MLOpsError as error:
            if not getattr(error, "told", False):
                click.secho(f"{error.message}", fg="red", err=True)
                if error.hint:
                    click.echo(error.hint, err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            ctx.exit(130)


def front(ctx: click.Context) -> Front:
    """The front that a command speaks to."""
    root = ctx.find_root()
    if root.obj is None:
        root.obj = TerminalFront()
    found: Front = root.obj
    return found


@click.group(
    cls=MLOpsGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=False,
)
@click.version_option(__version__, prog_name="jupyter-mlops")
def mlops() -> None:
    """Run notebooks with parameters, see the runs in MLflow.

    A RUN is an id, the unique beginning of one, or @last.
    """


from . import inspect_commands, run_commands, setup_commands  # noqa: E402 - the commands need the group

for _module in (run_commands, inspect_commands, setup_commands):
    for _command in _module.COMMANDS:
        mlops.add_command(_command)
