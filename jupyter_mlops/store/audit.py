"""The audit log: entries that are only ever added, each with the hash of the one before.

An entry's hash is SHA-256 over its content and the hash of the entry before, so that no entry can be changed, taken out
of the middle or put elsewhere without every later hash changing. What is cut off at the end shows because a row of its
own has the count and the last hash. Who can write to the database can make the whole of it anew: that shows only to
somebody who has noted a hash elsewhere (`verify(expect=…)`).

Knows no person and no secret: `jupyter_mlops.audit` makes the entries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from .database import Store, outlasting_a_restart
from .models import plain_text
from .tables import AuditHeadRow, AuditRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

FIRST = "0" * 64
"""What the first entry has for the hash of the one before."""
_PAGE = 1000
_MOST_PROBLEMS = 20


@dataclass(frozen=True)
class AuditEntry:
    """What was done, before it is in the log.

    Attributes:
        who: The person.
        host: The machine.
        process: The process on it.
        front: Where the command was given: terminal, notebook, scheduler, …
        action: What was done, like "run.submit".
        object: To what, like "run 5f0c…".
        details: What else is worth knowing; no secrets.
    """

    who: str
    host: str
    process: int
    front: str
    action: str
    object: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoggedEntry:
    """An entry in the log.

    Attributes:
        seq: Its number, from 1 without a gap.
        time: When it was added, in UTC.
        entry: What was done.
        previous: The hash of the one before.
        hash: Its own.
    """

    seq: int
    time: datetime
    entry: AuditEntry
    previous: str
    hash: str

    def as_dict(self) -> dict[str, Any]:
        """The entry as it is exported."""
        return {"seq": self.seq, "time": self.time.isoformat(), **vars(self.entry), "previous": self.previous,
                "hash": self.hash}  # fmt: skip


@dataclass(frozen=True)
class Verification:
    """What a look at the whole log found.

    Attributes:
        count: How many entries it has.
        last: The hash of the last: note it elsewhere, and give it as `expect` next time.
        problems: What is wrong, in sentences; empty: nothing.
    """

    count: int
    last: str
    problems: tuple[str, ...]


def entry_hash(seq: int, time: datetime, entry: AuditEntry, previous: str) -> str:
    """The hash of an entry: SHA-256 of its canonical JSON (sorted keys, ASCII, no space)."""
    content = {"seq": seq, "time": time.astimezone(timezone.utc).isoformat(), **vars(entry), "previous": previous}
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def append(session: Session, entry: AuditEntry) -> LoggedEntry:
    """Add an entry in a session that writes; call it last, since from here on every other writer of the log waits."""
    Store.hurry(session)
    # On SQLite the session holds the only right to write already; PostgreSQL locks the row.
    head = session.scalars(select(AuditHeadRow).where(AuditHeadRow.head_id == 1).with_for_update()).one()
    kept = AuditEntry(
        who=plain_text(entry.who), host=plain_text(entry.host), process=entry.process, front=plain_text(entry.front),
        action=plain_text(entry.action), object=plain_text(entry.object), details=json.loads(json.dumps(entry.details)),
    )  # fmt: skip
    seq, time = head.count + 1, datetime.now(timezone.utc)
    logged = LoggedEntry(seq, time, kept, head.hash, entry_hash(seq, time, kept, head.hash))
    session.add(AuditRow(
        seq=seq, time=time, who=kept.who, host=kept.host, process=kept.process, front=kept.front, action=kept.action,
        object=kept.object, details=json.dumps(kept.details), previous=logged.previous, hash=logged.hash,
    ))  # fmt: skip
    head.count, head.hash = seq, logged.hash
    session.flush()
    return logged


class AuditStore:
    """The audit log of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @outlasting_a_restart
    def add(self, entry: AuditEntry) -> LoggedEntry:
        """Add an entry that belongs to nothing else in the store."""
        with self._store.writing() as session:
            return append(session, entry)

    @outlasting_a_restart
    def entries(
        self,
        *,
        who: str | None = None,
        action: str | None = None,
        object_: str | None = None,
        since: datetime | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> list[LoggedEntry]:
        """Entries, newest first.

        Args:
            who: Only this person's.
            action: Only this action, or with a dot at the end every one that begins so ("run.").
            object_: Only about this object, or one whose name begins so.
            since: Added at or after this moment.
            limit: At most so many.
            before: Only those with a smaller number: the last of the page before.
        """
        query = select(AuditRow).order_by(AuditRow.seq.desc()).limit(limit)
        if who is not None:
            query = query.where(AuditRow.who == plain_text(who))
        if action is not None:
            query = query.where(
                AuditRow.action.startswith(action, autoescape=True)
                if action.endswith(".")
                else AuditRow.action == plain_text(action)
            )
        if object_ is not None:
            query = query.where(AuditRow.object.startswith(plain_text(object_), autoescape=True))
        if since is not None:
            query = query.where(AuditRow.time >= since)
        if before is not None:
            query = query.where(AuditRow.seq < before)
        with self._store.reading() as session:
            return [_logged(row) for row in session.scalars(query)]

    def export(self, *, after: int = 0) -> Iterator[LoggedEntry]:
        """Every entry of one moment, oldest first.

        Args:
            after: Only those with a larger number: the last of an earlier export.
        """
        with self._store.reading(one_moment=True) as session:
            yield from _ascending(session, after)

    def verify(self, *, expect: str | None = None) -> Verification:
        """Look at every entry, and at what the log says of its own end.

        Args:
            expect: A hash that was noted earlier, elsewhere; it must be in the log.
        """
        with self._store.reading(one_moment=True) as session:
            head = session.get(AuditHeadRow, 1)
            known = (head.count, head.hash) if head is not None else None
            return check_chain(_ascending(session, 0), head=known, expect=() if expect is None else (expect,))


def check_chain(
    entries: Iterable[LoggedEntry], *, head: tuple[int, str] | None, expect: Sequence[str] = ()
) -> Verification:
    """Follow a chain from its first entry.

    Args:
        entries: In ascending order.
        head: The count and the last hash that the log says it has; None: it does not say, which is a problem.
        expect: Hashes that must be in it.
    """
    problems: list[str] = []
    missing, previous, count, seq = set(expect), FIRST, 0, 0
    for logged in entries:
        count += 1
        if logged.seq != seq + 1:
            lost = f"{seq + 1}" if logged.seq == seq + 2 else f"{seq + 1} to {logged.seq - 1}"
            problems.append(f"Entry {lost} is missing.")
        elif logged.previous != previous:
            problems.append(f"Entry {logged.seq} does not follow the one before it: one of them was replaced.")
        if entry_hash(logged.seq, logged.time, logged.entry, logged.previous) != logged.hash:
            problems.append(f"Entry {logged.seq} was changed.")
        missing.discard(logged.hash)
        seq, previous = logged.seq, logged.hash
    if head is None:
        problems.append("The log does not say how many entries it has: that row is missing.")
    elif head[0] > seq:
        problems.append(f"The last entries are missing: there should be {head[0]}, and the last is {seq}.")
    elif head != (seq, previous):
        problems.append(f"The log says that entry {head[0]} is its last, and entry {seq} is not that one.")
    problems += [f"No entry has the hash {hash_}: the log is not the one that it was noted from." for hash_ in missing]
    return Verification(count, previous, tuple(problems[:_MOST_PROBLEMS]))


def _ascending(session: Session, after: int) -> Iterator[LoggedEntry]:
    while True:
        query = select(AuditRow).where(AuditRow.seq > after).order_by(AuditRow.seq).limit(_PAGE)
        page = [_logged(row) for row in session.scalars(query)]
        session.expunge_all()
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1].seq


def _logged(row: AuditRow) -> LoggedEntry:
    try:
        details = json.loads(row.details)
    except ValueError:  # somebody wrote into it: the hash will say so
        details = {"": row.details}
    entry = AuditEntry(row.who, row.host, row.process, row.front, row.action, row.object, details)
    return LoggedEntry(row.seq, row.time, entry, row.previous, row.hash)
