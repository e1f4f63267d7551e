"""`cluster`: commands about warm Dask clusters, for interactive work and for runs that shall start at once."""

from __future__ import annotations

import threading
from html import escape
from typing import Any
from urllib.parse import urlsplit

import click

from .group import MLOpsGroup
from .options import chosen_profile, duration, resource_options


def _front(ctx: click.Context) -> Any:
    from .app import front

    return front(ctx)


def _clusters(here: Any) -> Any:
    from ..clusters import Clusters

    return Clusters(here.runs.config)


@click.group(cls=MLOpsGroup)
def cluster() -> None:
    """Start, list, scale and stop Dask clusters that outlive a notebook.

    A cluster ends by itself when nothing runs on it for its idle time-out, and at the end of its lifetime.
    """


@cluster.command()
@resource_options
@click.option("--name", help="What to call it. Default: the profile's name.")
@click.option("--idle-timeout", metavar="TIME", help="End it when nothing ran on it for so long, like 30m.")
@click.option("--lifetime", metavar="TIME", help="End it after so long in any case, like 8h.")
@click.option("--json", "as_json", is_flag=True, help="Print the cluster as JSON.")
@click.pass_context
def start(
    ctx: click.Context, /, name: str | None, idle_timeout: str | None, lifetime: str | None, as_json: bool,
    **options: Any,
) -> None:  # fmt: skip
    """Start a cluster; in a notebook, with a ready `client`.

    `jupyter_mlops.get_client()` then gives the same client. Runs use the cluster with `train --cluster NAME`.
    """
    from ..progress.state import format_duration

    here = _front(ctx)
    clusters = _clusters(here)
    started = clusters.start(
        chosen_profile(here.runs.config, options),
        name=name,
        idle_timeout=duration(idle_timeout, "--idle-timeout"),
        lifetime=duration(lifetime, "--lifetime"),
        told=(lambda _text: None) if as_json else here.say,
    )
    spec = started.spec
    if here.namespace():
        here.take_results({"client": clusters.connect(spec.name)})
    record = clusters.get(spec.name)
    if as_json:
        here.data(record.as_dict())
        return
    here.say(
        f"Cluster {spec.name}: {record.workers} worker{'s' * (record.workers != 1)} on {record.where}. It ends after "
        f"{format_duration(spec.idle_timeout)} without use, and in {format_duration(spec.lifetime)} in any case."
    )
    if here.namespace():
        here.say("`client` is its Dask client.")


@cluster.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_clusters(ctx: click.Context, as_json: bool) -> None:
    """List your clusters, also those in Kubernetes that were started elsewhere."""
    from .tables import clusters_table

    here = _front(ctx)
    problems: list[str] = []
    found = _clusters(here).find(told=problems.append)
    if as_json:
        here.data([record.as_dict() for record in found])
        return
    if found:
        here.show(clusters_table(found))
    else:
        here.say("There are no clusters. Start one: jupyter mlops cluster start")
    for problem in problems:
        here.say(f"Kubernetes could not be asked: {problem}")


@cluster.command()
@click.argument("name", metavar="CLUSTER_OR_RUN")
@click.argument("workers", type=click.IntRange(1))
@click.pass_context
def scale(ctx: click.Context, name: str, workers: int) -> None:
    """Have so many Dask WORKERS in a cluster, or in a run on Kubernetes while it runs.

    On Kubernetes it is whole pods. Workers that go hand their data to the others first.
    """
    from ..errors import NotFoundError

    here = _front(ctx)
    try:
        comes_to = _clusters(here).scale(name, workers)
    except NotFoundError as no_cluster:
        try:
            comes_to = here.runs.scale(name, workers)
        except NotFoundError:
            raise no_cluster from None
    here.say(f"{name} is to have {comes_to} worker{'s' * (comes_to != 1)}.")


@cluster.command()
@click.argument("names", metavar="[CLUSTER]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every cluster of `cluster list`.")
@click.pass_context
def stop(ctx: click.Context, names: tuple[str, ...], everything: bool) -> None:
    """End clusters; runs on them are cancelled."""
    from ..errors import UsageError

    here = _front(ctx)
    clusters = _clusters(here)
    if bool(names) == everything:
        raise UsageError("Which cluster?", hint="Name one of `jupyter mlops cluster list`, or write --all.")
    for name in [record.name for record in clusters.find()] if everything else names:
        clusters.stop(name)
        here.say(f"The cluster {name} is stopped.")


@cluster.command()
@click.argument("name", metavar="CLUSTER")
@click.option("--print", "only_print", is_flag=True, help="Print the address and open no browser.")
@click.pass_context
def dashboard(ctx: click.Context, name: str, only_print: bool) -> None:
    """Show Dask's dashboard of a cluster; in a terminal, until Ctrl-C for one in Kubernetes.

    In a notebook it goes through jupyter-server-proxy where that is installed.
    """
    from ..errors import ClusterError
    from ..warm import calls

    here = _front(ctx)
    head = _clusters(here).reach(name, forwarded=True)
    if not head.call(calls.STATE)["dashboard"]:
        head.close()
        raise ClusterError(
            f"The cluster '{name}' has no dashboard: bokeh is not installed where its head runs.",
            hint="pip install bokeh, there or in its image.",
        )
    if here.namespace():
        _forwards.append(head)  # the link works as long as the kernel lives
        url = _through_server(head.http)
        here.show(url, html=f'<a href="{escape(url)}" target="_blank" rel="noopener">{escape(url)}</a>')
        return
    url = f"{head.http}/status"
    (here.say if only_print else here.open)(url)
    if not head.is_forwarded:
        return
    here.say("Ctrl-C ends the way to it.")
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        head.close()
        ctx.exit(0)


_forwards: list[Any] = []


def _through_server(http: str) -> str:
    """The address of the dashboard for the browser: by way of the Jupyter server, if that passes ports on."""
    from ..cluster.local import can_import
    from ..notebook.current import server_base_url

    base = server_base_url() if can_import("jupyter_server_proxy") else None
    return f"{http}/status" if base is None else f"{base}proxy/{urlsplit(http).port}/status"


COMMANDS = (cluster,)
