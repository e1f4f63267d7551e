"""Signed requests: what is taken, what is refused, and that one request makes one slot."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jupyter_mlops.audit import Auditor
from jupyter_mlops.config import MLOps
from jupyter_mlops.errors import MLOpsError, UsageError
from jupyter_mlops.jobs.model import JobState, Schedule, SlotKind
from jupyter_mlops.schedule import WebhookTrigger
from jupyter_mlops.scheduler.webhook import TOLERANCE, receive, sign, verify
from jupyter_mlops.store.database import Store
from jupyter_mlops.store.jobs import JobStore
from jupyter_mlops.store.slots import SlotStore
from tests.unit.store.job_cases import NOON, promoted

SECRET = "whsec_" + base64.b64encode(b"a secret of some length").decode()
AT = int(NOON.timestamp())


def headers(body: bytes = b"{}", *, secret: str = SECRET, message: str = "m1", at: int = AT) -> dict[str, str]:
    return {
        "Webhook-Id": message, "Webhook-Timestamp": str(at), "Webhook-Signature": sign(secret, message, at, body),
    }  # fmt: skip


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("CHURN_HOOK", SECRET)
    made = Store(f"sqlite:///{tmp_path / 'store.db'}")
    promoted(made, schedule=Schedule(triggers=(WebhookTrigger(secret_variable="CHURN_HOOK"),)))
    promoted(made, "other")
    yield made
    made.close()


def auditor() -> Auditor:
    return Auditor(MLOps(), "webhook")


def test_the_signature_is_that_of_the_specification() -> None:
    # The example of Standard Webhooks' own libraries.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body) == expected


def test_a_request_makes_one_slot_however_often_it_is_sent(store: Store) -> None:
    body = b'{"rows": 3}'
    assert receive(store, auditor(), "churn", headers(body), body, now=NOON) == 1
    assert receive(store, auditor(), "churn", headers(body), body, now=NOON) == 0
    assert receive(store, auditor(), "churn", headers(b"", message="m2"), b"", now=NOON) == 1
    slots = SlotStore(store).slots(job="churn")
    assert {slot.kind for slot in slots} == {SlotKind.WEBHOOK}
    assert sorted(str(slot.payload) for slot in slots) == ["{'rows': 3}", "{}"]


@pytest.mark.parametrize(
    ("job", "changes"),
    [
        ("churn", {"Webhook-Signature": ""}),
        ("churn", {"Webhook-Signature": "v1,\u00e9"}),
        ("churn", {"Webhook-Signature": sign("another secret", "m1", AT, b"{}")}),
        ("churn", {"Webhook-Id": "m2"}),
        ("churn", {"Webhook-Id": ""}),
        ("churn", {"Webhook-Timestamp": str(AT + 1)}),
        ("churn", {"Webhook-Timestamp": "soon"}),
        ("other", {}),
        ("nosuch", {}),
    ],
)
def test_what_is_not_signed_for_the_job_is_refused_without_a_word_more(
    store: Store, job: str, changes: dict[str, str]
) -> None:
    with pytest.raises(MLOpsError) as caught:
        receive(store, auditor(), job, {**headers(), **changes}, b"{}", now=NOON)
    assert (caught.value.code, caught.value.message) == ("signature", "The request is not signed as it has to be.")
    assert SlotStore(store).slots() == []


def test_a_changed_body_and_an_old_request_are_refused(store: Store) -> None:
    with pytest.raises(MLOpsError, match="not signed"):
        receive(store, auditor(), "churn", headers(b"{}"), b'{"a": 1}', now=NOON)
    for late in (TOLERANCE + 1, -TOLERANCE - 1):
        with pytest.raises(MLOpsError, match="more than 300 s"):
            receive(store, auditor(), "churn", headers(), b"{}", now=NOON + timedelta(seconds=late))
    assert verify(SECRET, {key.lower(): value for key, value in headers().items()}, b"{}", NOON) == "m1"


def test_a_body_that_is_no_object_and_a_paused_job_make_no_slot(store: Store) -> None:
    for body in (b"[1]", b"{", b"\xff"):
        with pytest.raises(UsageError):
            receive(store, auditor(), "churn", headers(body), body, now=NOON)
    JobStore(store).set_state("churn", JobState.PAUSED)
    assert receive(store, auditor(), "churn", headers(), b"{}", now=NOON) == 0
    JobStore(store).set_state("churn", JobState.DELETED)
    with pytest.raises(MLOpsError, match="not signed"):
        receive(store, auditor(), "churn", headers(), b"{}", now=NOON)
