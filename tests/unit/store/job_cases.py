"""What jobs, slots and the audit log promise on every database; asked of SQLite and of PostgreSQL like `cases`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from jupyter_mlops.errors import NotFoundError, StoreError, UsageError
from jupyter_mlops.jobs.model import (
    Approval,
    FiredBy,
    GateResult,
    JobState,
    JobVersion,
    MetricGate,
    Schedule,
    SlotKind,
    SlotState,
    Step,
    VersionState,
)
from jupyter_mlops.profile import Profile
from jupyter_mlops.schedule import EventTrigger, FileTrigger, JobTrigger
from jupyter_mlops.store.audit import FIRST, AuditEntry, AuditStore
from jupyter_mlops.store.database import Store
from jupyter_mlops.store.jobs import JobStore
from jupyter_mlops.store.leases import LeaseStore
from jupyter_mlops.store.slots import PlannedSlot, SlotStore, moment_key
from jupyter_mlops.store.watches import WatchStore

from .cases import all_at_once, spec

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)


def entry(action: str = "job.promote", **details: Any) -> AuditEntry:
    return AuditEntry("ann", "host", 7, "terminal", action, "job churn", details)


def step(**changes: Any) -> Step:
    fields = {
        "name": "train", "snapshot_id": "s", "notebook": "n.ipynb", "source": "/p/n.ipynb", "experiment": "e",
        "profile": Profile(name="local"),
    }  # fmt: skip
    return Step(**{**fields, **changes})


def version(job: str = "churn", **changes: Any) -> JobVersion:
    fields = {"steps": (step(),), "schedule": Schedule(cron="@hourly"), "owner": "ann", "author": "ann"}
    return JobVersion(**{"job": job, **fields, **changes})


def promoted(store: Store, job: str = "churn", *, now: datetime = NOON, **changes: Any) -> JobVersion:
    """A version that is live."""
    jobs = JobStore(store)
    made = jobs.add_version(version(job, **changes)).version
    jobs.set_live(job, made.number, now=now)
    return made


class JobCases:
    """Subclasses give the fixture `url`: an empty database for each test."""

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        made = Store(url)
        yield made
        made.close()

    def test_an_upgrade_keeps_the_runs(self, url: str) -> None:
        from alembic import command
        from alembic.config import Config
        from sqlalchemy import create_engine

        from jupyter_mlops.store import database

        engine = create_engine(database._parsed(url))
        config = Config()
        config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "0001")
            connection.execute(
                text(
                    "INSERT INTO runs (run_id, name, source, snapshot_id, profile, runner, owner, experiment, "
                    "tracking_uri, parameters, state, message, create_time) VALUES ('old1', 'n', '/p', 's', 'local', "
                    "'local', 'ann', 'e', 'u', '{\"a\": NaN}', 'failed', 'why', '2026-01-02 03:04:05.000006')"
                )
            )
        engine.dispose()
        store = Store(url)
        assert store.run("old1").message == "why"
        assert store.run("old1").parameters["a"] != store.run("old1").parameters["a"]
        assert AuditStore(store).verify().problems == ()
        assert promoted(store).number == 1
        store.close()

    def test_versions_are_numbered_and_come_back_as_they_went_in(self, store: Store) -> None:
        jobs = JobStore(store)
        given = version(
            steps=(step(parameters={"a": float("nan"), "b": "\x00\ud83d"}), step(name="deploy", needs=("train",))),
            schedule=Schedule(every=60, start=NOON), reason="because \x00",
            gates=(MetricGate(metric="accuracy", operator=">=", threshold=0.9),),
        )  # fmt: skip
        first, second = jobs.add_version(given), jobs.add_version(given)
        assert [first.version.number, second.version.number] == [1, 2]
        assert first.state is VersionState.PROPOSED
        again = jobs.version("churn", 1).version
        assert again.to_json() == given.model_copy(update={"number": 1}).to_json()
        assert again.digest == second.version.digest == given.digest
        assert [record.version.number for record in jobs.versions("churn")] == [2, 1]
        assert [record.version.number for record in jobs.versions("churn", before=2)] == [1]
        assert jobs.proposed(["churn", "no such"]) == {"churn": (1, 2)}
        assert jobs.proposed([]) == {}

    def test_a_version_that_somebody_changed_in_the_database_is_told(self, store: Store) -> None:
        promoted(store)
        with store.writing() as session:
            session.execute(text("UPDATE job_versions SET content = replace(content, '\"seed\": 0', '\"seed\": 1')"))
        with pytest.raises(StoreError, match="not what was recorded") as caught:
            JobStore(store).version("churn", 1)
        assert caught.value.code == "version_changed"
        assert SlotStore(store).due_jobs(NOON + HOUR)[0][1] is None

    def test_a_version_lives_and_retires_the_one_before(self, store: Store) -> None:
        jobs = JobStore(store)
        promoted(store)
        assert jobs.job("churn").next_time == NOON + HOUR
        promoted(store, schedule=Schedule(cron="@daily", tz="Europe/Berlin"), owner="bob")
        job = jobs.job("churn")
        assert (job.live_version, job.owner) == (2, "bob")
        assert job.next_time == datetime(2026, 11, 24, 23, 0, tzinfo=timezone.utc)
        assert [record.state for record in jobs.versions("churn")] == [VersionState.LIVE, VersionState.RETIRED]
        with pytest.raises(UsageError, match="retired"):
            jobs.set_live("churn", 1)
        jobs.add_version(version())
        jobs.refuse("churn", 3)
        for deed in (jobs.refuse, jobs.set_live):
            with pytest.raises(UsageError, match="refused"):
                deed("churn", 3)

    def test_a_moment_that_is_due_is_not_lost_by_a_new_version(self, store: Store) -> None:
        promoted(store)
        late = NOON + HOUR + timedelta(seconds=3)
        promoted(store, now=late)
        assert JobStore(store).job("churn").next_time == NOON + HOUR
        promoted(store, now=late, schedule=Schedule(cron="30 * * * *"))
        assert JobStore(store).job("churn").next_time == NOON + 1.5 * HOUR

    def test_a_job_pauses_resumes_is_deleted_and_comes_back(self, store: Store) -> None:
        jobs = JobStore(store)
        promoted(store, schedule=Schedule(cron="@hourly", triggers=(EventTrigger(event="drift"),)))
        assert jobs.set_state("churn", JobState.PAUSED).next_time is None
        assert SlotStore(store).due_jobs(NOON + 9 * HOUR) == []
        assert jobs.set_state("churn", JobState.ACTIVE, now=NOON + 3 * HOUR).next_time == NOON + 4 * HOUR
        deleted = jobs.set_state("churn", JobState.DELETED)
        assert (deleted.next_time, deleted.live_version) == (None, None)
        assert jobs.jobs() == []
        assert SlotStore(store).emit(SlotKind.EVENT, "drift", "1", now=NOON) == 0
        assert promoted(store).number == 2
        assert jobs.job("churn").state is JobState.ACTIVE

    def test_what_kubernetes_fires_has_no_moments_here(self, store: Store) -> None:
        promoted(store, fired_by=FiredBy.KUBERNETES)
        assert JobStore(store).job("churn").next_time is None

    def test_jobs_are_listed_by_name_page_by_page(self, store: Store) -> None:
        jobs = JobStore(store)
        for name in ("c", "a", "b"):
            promoted(store, name, owner="bob" if name == "c" else "ann")
        assert [job.name for job in jobs.jobs(limit=2)] == ["a", "b"]
        assert [job.name for job in jobs.jobs(limit=2, after="b")] == ["c"]
        assert [job.name for job in jobs.jobs(owner="bob")] == ["c"]
        for missing in (lambda: jobs.job("zz"), lambda: jobs.version("a", 7), lambda: jobs.versions("\x00")):
            with pytest.raises(NotFoundError):
                missing()

    def test_gates_and_approvals_are_kept_with_their_evidence(self, store: Store) -> None:
        jobs = JobStore(store)
        promoted(store)
        gate = MetricGate(metric="accuracy", operator=">=", threshold=0.9)
        results = [
            GateResult(gate=gate, passed=False, seen="0.8 \x00", wanted="0.9", evidence={"accuracy": float("nan")}),
            GateResult(gate=gate, passed=True, seen="0.95", wanted="0.9"),
        ]
        jobs.add_gate_results("churn", 1, results[:1])
        jobs.add_gate_results("churn", 1, results[1:], entry=entry())
        found = jobs.gate_results("churn", 1)
        assert [result.passed for result in found] == [False, True]
        assert found[0].evidence["accuracy"] != found[0].evidence["accuracy"]
        assert found[1] == results[1]
        jobs.add_approval("churn", 1, Approval(who="bob", approved=False, comment="no", create_time=NOON))
        jobs.add_approval("churn", 1, Approval(who="cat", approved=True, create_time=NOON + HOUR))
        jobs.add_approval("churn", 1, Approval(who="bob", approved=True, create_time=NOON + 2 * HOUR))
        assert [(said.who, said.approved) for said in jobs.approvals("churn", 1)] == [("cat", True), ("bob", True)]

    def test_first_versions_of_one_name_from_many_threads_are_numbered(self, url: str) -> None:
        Store(url).close()
        numbers = []

        def add() -> None:
            store = Store(url)
            numbers.append(JobStore(store).add_version(version(), entry=entry()).version.number)
            store.close()

        threads = [threading.Thread(target=add) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(numbers) == list(range(1, 9))

    # -- slots -------------------------------------------------------------------------------------------------

    def test_a_moment_is_claimed_by_one(self, store: Store) -> None:
        slots = SlotStore(store)
        promoted(store)
        (job, live), *_ = slots.due_jobs(NOON + HOUR)
        assert live is not None
        assert slots.due_jobs(NOON) == []
        assert slots.claim(job, live, [PlannedSlot(NOON + HOUR)], NOON + 2 * HOUR, NOON + HOUR) == 1
        assert slots.claim(job, live, [PlannedSlot(NOON + HOUR)], NOON + 2 * HOUR, NOON + HOUR) == 0
        (made,) = slots.slots(job="churn")
        assert (made.slot_time, made.state, made.key) == (NOON + HOUR, SlotState.WAITING, moment_key(NOON + HOUR))

    def test_a_backfill_does_not_repeat_what_was_claimed(self, store: Store) -> None:
        slots = SlotStore(store)
        promoted(store)
        first = slots.add_slot("churn", SlotKind.BACKFILL, moment_key(NOON), now=NOON, slot_time=NOON, entry=entry())
        again = slots.add_slot("churn", SlotKind.SCHEDULE, moment_key(NOON), now=NOON, slot_time=NOON, entry=entry())
        assert again == first
        assert AuditStore(store).verify().count == 1
        (job, live), *_ = slots.due_jobs(NOON + HOUR)
        assert live is not None
        assert slots.claim(job, live, [PlannedSlot(NOON), PlannedSlot(NOON + HOUR)], None, NOON + HOUR) == 1

    def test_a_backfill_makes_what_is_missing_and_one_entry(self, store: Store) -> None:
        slots = SlotStore(store)
        promoted(store)
        moments = [NOON + number * HOUR for number in range(4)]
        slots.add_slot("churn", SlotKind.SCHEDULE, moment_key(moments[1]), now=NOON, slot_time=moments[1])
        made = slots.backfill("churn", moments, now=NOON, entry=entry("job.backfill", reason="late data"))
        assert made == [moments[0], moments[2], moments[3]]
        assert slots.backfill("churn", moments, now=NOON, entry=entry("job.backfill")) == []
        found = slots.slots(job="churn")
        assert [slot.kind for slot in found] == [SlotKind.BACKFILL, SlotKind.BACKFILL, SlotKind.SCHEDULE,
                                                 SlotKind.BACKFILL]  # fmt: skip
        (told,) = AuditStore(store).entries(action="job.backfill")
        assert told.entry.details == {"reason": "late data", "slots": 3}
        with pytest.raises(NotFoundError):
            slots.backfill("nosuch", moments, now=NOON)

    def test_slots_are_listed_page_by_page_and_found_by_their_beginning(self, store: Store) -> None:
        slots = SlotStore(store)
        promoted(store)
        for number in range(5):
            slots.add_slot(
                "churn", SlotKind.MANUAL, f"by hand {number}", now=NOON, slot_time=NOON + (number // 2) * HOUR
            )
        first = slots.slots(limit=3)
        second = slots.slots(limit=3, before=first[-1])
        assert len({slot.slot_id for slot in (*first, *second)}) == 5
        times = [slot.slot_time for slot in (*first, *second)]
        assert times == sorted(times, reverse=True)
        assert slots.slot(first[0].slot_id[:9]) == first[0]
        for name in ("", "%", "zz", "0' OR 1=1"):
            with pytest.raises(NotFoundError):
                slots.slot(name)
        assert slots.slots(states=[SlotState.FAILED]) == []

    def test_long_and_hostile_keys_make_one_slot(self, store: Store) -> None:
        slots = SlotStore(store)
        promoted(store)
        for key in ("x" * 5000, "\x00\ud83d"):
            assert slots.add_slot("churn", SlotKind.MANUAL, key, now=NOON) == slots.add_slot(
                "churn", SlotKind.MANUAL, key, now=NOON
            )
        JobStore(store).add_version(version("new"))
        with pytest.raises(UsageError, match="no version that is live"):
            slots.add_slot("new", SlotKind.MANUAL, "k", now=NOON)

    def test_a_lease_is_one_processes_until_it_runs_out(self, store: Store) -> None:
        slots, leases = SlotStore(store), LeaseStore(store)
        promoted(store)
        slots.add_slot("churn", SlotKind.MANUAL, "k", now=NOON)
        ((slot_id, token),) = leases.wakeable(NOON, limit=9)
        mine = leases.take(slot_id, token, process_id="a", now=NOON, until=NOON + HOUR)
        assert mine is not None
        assert leases.take(slot_id, token, process_id="b", now=NOON, until=NOON + HOUR) is None
        assert leases.wakeable(NOON, limit=9) == []
        leases.extend([(slot_id, mine.token)], NOON + 2 * HOUR)
        assert leases.wakeable(NOON + HOUR, limit=9) == []
        late = NOON + 2 * HOUR
        theirs = leases.take(slot_id, mine.token, process_id="b", now=late, until=late + HOUR)
        assert theirs is not None
        leases.extend([(slot_id, mine.token)], NOON + 9 * HOUR)
        assert not leases.save(mine, now=late, state=SlotState.FAILED, wake_time=None)
        assert leases.save(theirs, now=late, state=SlotState.SUCCEEDED, wake_time=None, run_id="r")
        assert slots.slot(slot_id).state is SlotState.SUCCEEDED
        assert leases.wakeable(late + 99 * HOUR, limit=9) == []

    def test_a_success_starts_the_jobs_that_wait_for_it_once(self, store: Store) -> None:
        slots, leases = SlotStore(store), LeaseStore(store)
        promoted(store, "ingest")
        promoted(store, "churn", schedule=Schedule(triggers=(JobTrigger(job="ingest"),)))
        promoted(store, "other", schedule=Schedule(triggers=(JobTrigger(job="churn"),)))
        for key, state in (("1", SlotState.FAILED), ("2", SlotState.SUCCEEDED)):
            made = slots.add_slot("ingest", SlotKind.MANUAL, key, now=NOON)
            lease = leases.take(made.slot_id, 0, process_id="a", now=NOON, until=NOON + HOUR)
            assert lease is not None
            assert leases.save(lease, now=NOON, state=state, wake_time=None, run_id="r1")
            assert not leases.save(lease, now=NOON, state=state, wake_time=None, run_id="r1")
        (started,) = slots.slots(job="churn")
        assert started.kind is SlotKind.JOB
        assert started.payload == {"job": "ingest", "slot": made.slot_id, "run": "r1"}
        assert slots.slots(job="other") == []

    def test_an_event_told_twice_makes_one_slot_for_each_job_that_waits(self, store: Store) -> None:
        slots = SlotStore(store)
        trigger = Schedule(triggers=(EventTrigger(event="drift/churn"),))
        for name in ("a", "b"):
            promoted(store, name, schedule=trigger)
        assert slots.emit(SlotKind.EVENT, "drift/churn", "7", now=NOON, payload={"psi": 0.3}) == 2
        assert slots.emit(SlotKind.EVENT, "drift/churn", "7", now=NOON) == 0
        assert slots.emit(SlotKind.EVENT, "drift/other", "7", now=NOON) == 0
        assert [slot.payload for slot in slots.slots()] == [{"psi": 0.3}] * 2

    def test_an_object_makes_a_slot_once_and_what_was_there_makes_none(self, store: Store) -> None:
        watches, slots = WatchStore(store), SlotStore(store)
        promoted(store, schedule=Schedule(triggers=(FileTrigger(url="file:///in/*"),)))

        def look(
            objects: dict[str, dict[str, Any]], now: datetime, message: str = "", old: tuple[str, ...] = ()
        ) -> int:
            (watch,) = watches.due_watches(now)
            assert watches.take_watch(watch, now + HOUR)
            assert not watches.take_watch(watch, now + HOUR)
            assert watches.due_watches(now) == []
            new = {key: told for key, told in objects.items() if key not in watches.seen(watch, objects)}
            return watches.finish_watch(watch, new, now=now, wake_time=now + HOUR, message=message, old=old)

        assert look({}, NOON, "cannot be listed") == 0
        assert watches.troubles() == [("churn", "file:///in/*", "cannot be listed")]
        assert watches.due_watches(NOON + HOUR)[0].since == NOON
        assert look({}, NOON + HOUR, old=("old",)) == 0
        assert watches.troubles() == []
        assert look({"old": {"url": "o"}, "new": {"url": "n"}}, NOON + 2 * HOUR) == 1
        promoted(store, schedule=Schedule(cron="@daily", triggers=(FileTrigger(url="file:///in/*"),)))
        assert look({"old": {"url": "o"}, "new": {"url": "n"}, "newer": {"url": "m"}}, NOON + 3 * HOUR) == 1
        assert sorted(slot.payload["url"] for slot in slots.slots()) == ["m", "n"]

    # -- the audit log -----------------------------------------------------------------------------------------

    def test_the_log_is_a_chain_with_hostile_text_in_it(self, store: Store) -> None:
        log = AuditStore(store)
        log.add(AuditEntry("a\x00\ud83d", "h", 1, "terminal", "x.y", "o" * 9000, {"nan": float("nan"), "t": "\x00"}))
        log.add(entry(deep={"a": [1, None, True, "ü"]}))
        found = log.verify()
        assert (found.count, found.problems) == (2, ())
        first, second = log.export()
        assert (first.previous, second.previous) == (FIRST, first.hash)
        assert [logged.seq for logged in log.export(after=1)] == [2]
        assert log.verify(expect=first.hash).problems == ()
        assert "No entry has the hash" in log.verify(expect="f" * 64).problems[0]

    def test_a_change_and_its_entry_are_there_both_or_neither(self, store: Store) -> None:
        log = AuditStore(store)
        store.add_run(spec(run_key="k"), entry=entry("run.submit"))
        store.add_run(spec(run_key="k"), entry=entry("run.submit"))
        assert log.verify().count == 1
        with pytest.raises(NotFoundError):
            JobStore(store).set_live("nosuch", 1, entry=entry())
        JobStore(store).add_version(version(), entry=entry())
        (newest, *_) = log.entries()
        assert newest.entry.details == {"version": 1}
        assert log.verify().count == 2

    def test_entries_are_found(self, store: Store) -> None:
        log = AuditStore(store)
        for action in ("run.submit", "run.cancel", "job.promote", "runner.x"):
            log.add(entry(action))
        assert [one.entry.action for one in log.entries(action="run.")] == ["run.cancel", "run.submit"]
        assert [one.seq for one in log.entries(limit=2)] == [4, 3]
        assert [one.seq for one in log.entries(limit=2, before=3)] == [2, 1]
        assert log.entries(who="nobody") == log.entries(object_="run") == log.entries(since=NOON + 9999 * HOUR) == []
        assert len(log.entries(object_="job ch", who="ann")) == 4

    def test_the_database_refuses_to_change_the_log(self, store: Store) -> None:
        AuditStore(store).add(entry())
        for statement in ("UPDATE audit SET who = 'eve'", "DELETE FROM audit"):
            with pytest.raises(StoreError, match="append-only"), store.writing() as session:
                session.execute(text(statement))
        assert AuditStore(store).verify().count == 1

    @pytest.mark.parametrize(
        ("deed", "problem"),
        [
            ("UPDATE audit SET who = 'eve' WHERE seq = 3", "Entry 3 was changed"),
            ("UPDATE audit SET details = '{' WHERE seq = 3", "Entry 3 was changed"),
            ("UPDATE audit SET time = '2001-01-01 00:00:00+00:00' WHERE seq = 3", "Entry 3 was changed"),
            ("DELETE FROM audit WHERE seq = 3", "Entry 3 is missing"),
            ("DELETE FROM audit WHERE seq IN (1, 2)", "Entry 1 to 2 is missing"),
            ("DELETE FROM audit WHERE seq >= 5", "should be 6, and the last is 4"),
            ("DELETE FROM audit", "should be 6, and the last is 0"),
            ("DELETE FROM audit_head", "does not say how many"),
            ("UPDATE audit_head SET hash = previous FROM audit WHERE seq = 6", "entry 6 is not that one"),
            (
                "UPDATE audit SET seq = CASE seq WHEN 2 THEN 103 ELSE 102 END WHERE seq IN (2, 3); "
                "UPDATE audit SET seq = seq - 100 WHERE seq > 100",
                "Entry 2 was changed",
            ),
            (
                "INSERT INTO audit SELECT 7, time, who, host, process, front, action, object, details, hash, hash "
                "FROM audit WHERE seq = 6",
                "Entry 7 was changed",
            ),
        ],
    )
    def test_what_is_done_to_the_log_is_found(self, store: Store, deed: str, problem: str) -> None:
        log = AuditStore(store)
        for number in range(6):
            log.add(entry(number=number))
        with store.writing() as session:
            if session.get_bind().dialect.name == "postgresql":
                session.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
            else:
                session.execute(text("DROP TRIGGER audit_no_update"))
                session.execute(text("DROP TRIGGER audit_no_delete"))
            for statement in deed.split("; "):
                session.execute(text(statement))
        problems = log.verify().problems
        assert any(problem in told for told in problems), problems

    def test_a_log_that_was_made_anew_shows_to_who_noted_a_hash(self, store: Store) -> None:
        log = AuditStore(store)
        noted = log.add(entry("secret.read")).hash
        with store.writing() as session:
            if session.get_bind().dialect.name == "postgresql":
                session.execute(text("ALTER TABLE audit DISABLE TRIGGER USER"))
            else:
                session.execute(text("DROP TRIGGER audit_no_delete"))
            session.execute(text("DELETE FROM audit"))
            session.execute(text(f"UPDATE audit_head SET count = 0, hash = '{FIRST}'"))
        log.add(entry("nothing.happened"))
        assert log.verify().problems == ()
        assert log.verify(expect=noted).problems

    def test_writers_in_several_processes_make_one_chain(self, url: str) -> None:
        Store(url).close()
        code = (
            "from jupyter_mlops.store.audit import AuditEntry, AuditStore\nlog = AuditStore(Store(sys.argv[1]))\n"
            "for n in range(25):\n    log.add(AuditEntry('ann', 'h', n, 'terminal', 'x', 'o', {'n': n}))"
        )
        all_at_once(code, 4, url)
        store = Store(url)
        found = AuditStore(store).verify()
        assert (found.count, found.problems) == (100, ())
        store.close()
