"""Commands about the audit log."""

from __future__ import annotations

from typing import Any

import click

from .group import MLOpsGroup
from .options import moment


def _front(ctx: click.Context) -> Any:
    from .app import front

    return front(ctx)


@click.group(cls=MLOpsGroup)
def audit() -> None:
    """Read and verify the log of who did what, when, from where."""


@audit.command(name="list")
@click.option("--who", metavar="USER", help="Only what this person did.")
@click.option("--action", metavar="ACTION", help="Only this action, like run.submit; with a dot at the end (run.) all "
              "that begin so.")  # fmt: skip
@click.option("--object", "object_", metavar="OBJECT", help="Only about this: 'job churn', 'run 5f0c'.")
@click.option("--since", metavar="WHEN", help="Only since then: 2h, 3d, or a date.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, help="At most so many. Default: 20.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def list_(
    ctx: click.Context, who: str | None, action: str | None, object_: str | None, since: str | None, limit: int,
    as_json: bool,
) -> None:  # fmt: skip
    """List entries, newest first."""
    here = _front(ctx)
    log = here.runs.audit.log(here.runs.store)
    found = log.entries(who=who, action=action, object_=object_, since=moment(since), limit=limit)
    if as_json:
        here.data([entry.as_dict() for entry in found])
        return
    if not found:
        here.say("There is no such entry." if any((who, action, object_, since)) else "The audit log is empty.")
        return
    from .tables import audit_table

    here.show(audit_table(found))


@audit.command()
@click.option("--expect", metavar="HASH", help="A hash that an earlier verify gave and that you kept elsewhere: it "
              "must be in the log.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def verify(ctx: click.Context, expect: str | None, as_json: bool) -> None:
    """Look for entries that were changed, taken out or put elsewhere.

    Exits with 1 if there is one. Keep the hash that it prints somewhere that the writers of the store cannot reach, and
    give it with --expect the next time: a log that was made anew as a whole shows only so.
    """
    from ..errors import MLOpsError

    here = _front(ctx)
    found = here.runs.audit.log(here.runs.store).verify(expect=expect)
    if as_json:
        here.data({"count": found.count, "last": found.last, "problems": list(found.problems)})
    else:
        here.say(*found.problems)
        here.say(f"{found.count} entries; the hash of the last is {found.last}.")
    if found.problems:
        error = MLOpsError("The audit log is not whole.", code="audit")
        error.told = as_json  # type: ignore[attr-defined]
        raise error
    if not as_json:
        here.say("The log is whole.")


@audit.command()
@click.option("--output", "-o", type=click.Path(dir_okay=False, writable=True), metavar="FILE",
              help="Where to. Default: standard output.")  # fmt: skip
@click.option("--after", type=click.IntRange(0), default=0, metavar="N", help="Only entries after the N-th.")
@click.pass_context
def export(ctx: click.Context, output: str | None, after: int) -> None:
    """Write the entries, oldest first, as JSON lines."""
    import json

    here = _front(ctx)
    log = here.runs.audit.log(here.runs.store)
    with click.open_file(output or "-", "w", encoding="utf-8") as out:
        for entry in log.export(after=after):
            out.write(json.dumps(entry.as_dict(), ensure_ascii=True) + "\n")


COMMANDS = (audit,)
