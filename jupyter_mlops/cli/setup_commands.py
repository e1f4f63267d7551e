"""Commands about the installation: profiles, settings, MLflow's page, and what is still to be sent to MLflow."""

from __future__ import annotations

from typing import Any

import click


def _front(ctx: click.Context) -> Any:
    from .app import front

    return front(ctx)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def profiles(ctx: click.Context, as_json: bool) -> None:
    """List the profiles: the resources on offer."""
    from .tables import profiles_table

    here = _front(ctx)
    config = here.runs.config
    found = list(config.all_profiles().values())
    if as_json:
        here.data([profile.model_dump() for profile in found])
        return
    here.show(profiles_table(found, default=config.default_profile))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def config(ctx: click.Context, as_json: bool) -> None:
    """Show the settings, where they come from, and what each is for."""
    from jupyter_core.paths import jupyter_config_path

    from ..config import without_credentials
    from .tables import settings_table

    here = _front(ctx)
    settings = here.runs.config
    values = {name: getattr(settings, name) for name in sorted(settings.trait_names(config=True))}
    effective = {
        "data_dir": str(settings.data_path),
        "tracking_uri": settings.mlflow_uri_shown(),
        "store_url": without_credentials(settings.store_uri()),
    }
    values.update(effective)
    if as_json:
        here.data(values)
        return
    here.show(settings_table(values, {name: settings.traits()[name].help for name in values}))
    here.say("Set them as c.MLOps.<name> in jupyter_mlops_config.py, in one of: " + ", ".join(jupyter_config_path()))


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, help="Port on 127.0.0.1. Default: 5000.")
@click.option("--print", "only_print", is_flag=True, help="Print the command and start nothing.")
@click.pass_context
def ui(ctx: click.Context, port: int, only_print: bool) -> None:
    """Show the runs in MLflow's own page (for the default store, until Ctrl-C)."""
    import shlex
    import subprocess

    from ..tracking.server import ui_command

    here = _front(ctx)
    settings = here.runs.config
    uri = settings.mlflow_uri()
    if uri.startswith(("http://", "https://")):
        (here.say if only_print else here.open)(settings.mlflow_uri_shown())
        return
    command = ui_command(uri, port)
    if only_print:
        here.say(shlex.join(command))
        return
    _refuse_taken(port)
    here.say(f"MLflow's page: http://127.0.0.1:{port} (Ctrl-C ends it)")
    try:
        ctx.exit(subprocess.call(command))
    except KeyboardInterrupt:
        ctx.exit(0)


def _refuse_taken(port: int) -> None:
    import socket

    from ..errors import UsageError

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise UsageError(
                f"The port {port} cannot be used: {error.strerror or error}.", hint="Choose another one: --port 5001"
            ) from None


@click.command()
@click.pass_context
def sync(ctx: click.Context) -> None:
    """Send to MLflow what it missed while it was away."""
    from ..engine.publish import publish_pending

    here = _front(ctx)
    left = publish_pending(here.runs.config, told=here.say)
    here.say("Nothing is waiting." if left == 0 else f"{left} still waiting.")
    if left:
        ctx.exit(1)


COMMANDS = (profiles, config, ui, sync)
