"""Signed requests that start a job, by the specification of Standard Webhooks (https://www.standardwebhooks.com).

Who asks signs `ID.TIMESTAMP.BODY` with HMAC-SHA256; a request is good for five minutes, and its id makes one slot,
however often it is sent. Knows no HTTP: whatever server there is hands over the headers and the body.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from ..audit import Auditor
from ..errors import MLOpsError, UsageError
from ..jobs.model import SlotKind
from ..schedule import WebhookTrigger
from ..store.database import Store
from ..store.jobs import JobStore
from ..store.slots import SlotStore

TOLERANCE = 300
"""Seconds by which the time of a request may differ from ours."""
LONGEST_BODY = 64 * 1024
_LONGEST_ID = 200


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of the header `webhook-signature`.

    Args:
        secret: The shared secret; `whsec_` before it says that it is base64.
        message_id: The value of `webhook-id`.
        timestamp: The value of `webhook-timestamp`: seconds since 1970.
        body: The body as it is sent.
    """
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def verify(secret: str, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """The id of a request that is signed with the secret and new.

    Args:
        secret: The shared secret.
        headers: The request's, by lower-case names.
        body: Its body.
        now: The time.

    Raises:
        MLOpsError: it is not; the code is "signature", and the message does not say what was expected.
    """
    message_id, signatures = headers.get("webhook-id", ""), headers.get("webhook-signature", "")
    refused = MLOpsError("The request is not signed as it has to be.", code="signature")
    try:
        timestamp = int(headers.get("webhook-timestamp", ""))
    except ValueError:
        raise refused from None
    if not 0 < len(message_id) <= _LONGEST_ID:
        raise refused
    wanted = sign(secret, message_id, timestamp, body).encode()
    if not any(hmac.compare_digest(given.encode("utf-8", "replace"), wanted) for given in signatures.split(" ")):
        raise refused
    if abs(now.timestamp() - timestamp) > TOLERANCE:
        raise MLOpsError(
            f"The request was signed more than {TOLERANCE} s from now.", hint="Set the clocks.", code="signature"
        )
    return message_id


def receive(
    store: Store, auditor: Auditor, job: str, headers: Mapping[str, str], body: bytes, *, now: datetime | None = None
) -> int:
    """Take a request: verify it against the secret of the job's live version, and make its slot.

    Args:
        store: The store.
        auditor: For the audit log.
        job: The job's name, from the URL.
        headers: By lower-case names.
        body: A JSON object, or empty: what the slot is told.
        now: The time; default: now.

    Returns:
        How many slots were made: 0 if this request came before.

    Raises:
        MLOpsError: the job takes no such request ("signature": do not say more to who asks), or the body is none.
    """
    now = now or datetime.now(timezone.utc)
    message_id = verify(_secret(store, job), {key.lower(): value for key, value in headers.items()}, body, now)
    payload = _payload(body)
    entry = auditor.entry("job.webhook", f"job {job}", message=message_id)
    return SlotStore(store).emit(SlotKind.WEBHOOK, job, message_id, now=now, payload=payload, entry=entry)


def _secret(store: Store, name: str) -> str:
    refused = MLOpsError("The request is not signed as it has to be.", code="signature")
    jobs = JobStore(store)
    try:
        job = jobs.job(name)
    except UsageError:
        raise refused from None
    if job.live_version is None:
        raise refused
    for trigger in jobs.version(name, job.live_version).version.schedule.triggers:
        if isinstance(trigger, WebhookTrigger) and os.environ.get(trigger.secret_variable):
            return os.environ[trigger.secret_variable]
    raise refused


def _key(secret: str) -> bytes:
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


def _payload(body: bytes) -> dict[str, Any]:
    if len(body) > LONGEST_BODY:
        raise UsageError(f"The body of the request is longer than {LONGEST_BODY} bytes.")
    try:
        found = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise UsageError("The body of the request is no JSON.") from None
    if not isinstance(found, dict):
        raise UsageError("The body of the request is no JSON object.")
    return found
