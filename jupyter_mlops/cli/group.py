"""Groups of commands: how errors leave them, and the front that a command speaks to."""

from __future__ import annotations

from typing import Any

import click

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
