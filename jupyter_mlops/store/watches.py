"""The file triggers of live versions: which are to be looked at, and which objects each has seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from ..jobs.model import JobState, SlotKind
from ..schedule import FileTrigger
from .database import Store, outlasting_a_restart
from .models import plain_text
from .slots import insert_new, insert_slots, live_version, new_slot
from .tables import JobRow, SeenRow, WatchRow

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True)
class Watch:
    """A file trigger of a live version that is to be looked at.

    Attributes:
        job: The job's name.
        job_id: The job.
        trigger_key: Which of its triggers.
        trigger: The trigger.
        since: When it went live.
        armed: Whether what was there then has been noted.
        token: Which look this is: a later one has another.
    """

    job: str
    job_id: str
    trigger_key: str
    trigger: FileTrigger
    since: datetime
    armed: bool
    token: int


class WatchStore:
    """The file triggers of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @outlasting_a_restart
    def due_watches(self, now: datetime, *, limit: int = 20) -> list[Watch]:
        """File triggers of active jobs that are to be looked at."""
        query = (
            select(WatchRow, JobRow.name)
            .join(JobRow, JobRow.job_id == WatchRow.job_id)
            .where(WatchRow.wake_time <= now, JobRow.state == JobState.ACTIVE.value)
            .order_by(WatchRow.wake_time)
            .limit(limit)
        )
        with self._store.reading() as session:
            return [
                Watch(
                    name,
                    row.job_id,
                    row.trigger_key,
                    FileTrigger.model_validate_json(row.content),
                    row.since,
                    row.armed,
                    row.token,
                )
                for row, name in session.execute(query)
            ]

    def take_watch(self, watch: Watch, until: datetime) -> bool:
        """Claim a look at a trigger until a moment; False: another scheduler has it."""
        with self._store.writing() as session:
            return _set_watch(session, watch, watch.token, wake_time=until, token=watch.token + 1)

    def seen(self, watch: Watch, keys: Iterable[str]) -> set[str]:
        """Which of these objects a trigger has seen before."""
        wanted, found = list(keys), set[str]()
        with self._store.reading() as session:
            for start in range(0, len(wanted), 500):
                query = select(SeenRow.object_key).where(
                    SeenRow.job_id == watch.job_id, SeenRow.object_key.in_(wanted[start : start + 500])
                )
                found.update(session.scalars(query))
        return found

    def finish_watch(
        self,
        watch: Watch,
        objects: dict[str, dict[str, Any]],
        *,
        now: datetime,
        wake_time: datetime,
        old: Iterable[str] = (),
        message: str = "",
    ) -> int:
        """Note the objects that were not seen before, with a slot for each that is new.

        Args:
            watch: As `due_watches` gave it and `take_watch` took it.
            objects: What the slot of each new object is told, by the object's key.
            now: The time.
            wake_time: When to look next.
            old: Keys of objects that are only to be noted.
            message: Why the look failed, or empty; then the trigger stays as it was armed.

        Returns:
            How many slots were made.
        """
        with self._store.writing() as session:
            if not _set_watch(
                session, watch, watch.token + 1, wake_time=wake_time, message=plain_text(message),
                armed=watch.armed or not message,
            ):  # fmt: skip
                return 0
            made = 0
            for key in old:
                _note(session, watch, key, now)
            version = live_version(session, watch.job)[1] if objects else None
            for key, payload in objects.items():
                if _note(session, watch, key, now) and version is not None:
                    slot = new_slot(watch.job_id, version, SlotKind.FILE, f"file:{key}", now, now, payload=payload)
                    made += insert_slots(session, [slot])
            return made

    @outlasting_a_restart
    def troubles(self, *, limit: int = 50) -> list[tuple[str, str, str]]:
        """Triggers whose last look failed: the job, the URL, and why."""
        query = select(JobRow.name, WatchRow.content, WatchRow.message).join(JobRow, JobRow.job_id == WatchRow.job_id)
        with self._store.reading() as session:
            found = session.execute(query.where(WatchRow.message != "").order_by(JobRow.name).limit(limit))
            return [(job, FileTrigger.model_validate_json(content).url, why) for job, content, why in found]


def _note(session: Session, watch: Watch, key: str, now: datetime) -> int:
    seen = {"job_id": watch.job_id, "object_key": key, "seen_time": now}
    return insert_new(session, SeenRow, seen, ("job_id", "object_key"))


def _set_watch(session: Session, watch: Watch, held: int, **values: Any) -> bool:
    done = session.execute(
        update(WatchRow)
        .where(WatchRow.job_id == watch.job_id, WatchRow.trigger_key == watch.trigger_key, WatchRow.token == held)
        .values(**values)
    )
    return bool(done.rowcount)  # type: ignore[attr-defined]
