"""What a file trigger finds at its URL: the objects that it has not seen, through fsspec. Knows no store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from ..errors import MLOpsError
from ..schedule import FileTrigger

_TAGS = ("ETag", "etag", "e_tag", "content_hash", "md5Hash", "checksum")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "modified", "created")


@dataclass(frozen=True)
class Found:
    """Objects that were not seen before.

    Attributes:
        new: What the slot of each is told, by the object's key.
        old: Keys of those that were there before the trigger was.
    """

    new: dict[str, dict[str, Any]]
    old: tuple[str, ...] = ()


def find_objects(
    trigger: FileTrigger, now: datetime, seen: Callable[[Iterable[str]], set[str]], *, since: datetime | None = None
) -> Found:
    """The objects at a trigger's URL that were not seen before.

    An object that was replaced is another one: the key has its ETag, or the time of its last change and its size.

    Args:
        trigger: Where to look.
        now: The time.
        seen: Tells which keys were seen before.
        since: At the first look, when the trigger went live: what has changed before then, or tells no time, is old.

    Raises:
        MLOpsError: the storage cannot be listed now.
    """
    found: dict[str, dict[str, Any]] = {}
    old = set()
    for url, facts in _listed(trigger.url).items():
        tag, changed = _first(facts, _TAGS), _moment(_first(facts, _TIMES))
        if tag is None and changed is not None and changed > now - timedelta(seconds=trigger.settle):
            continue  # it may be half written
        identity = [tag] if tag is not None else [changed.isoformat() if changed else None, facts.get("size")]
        key = hashlib.sha256(json.dumps([url, *map(str, identity)]).encode()).hexdigest()
        found[key] = {"url": url, "size": facts.get("size")}
        if since is not None and (changed is None or changed < since):
            old.add(key)
    known = seen(found)
    new = {key: told for key, told in found.items() if key not in known and key not in old}
    return Found(new, tuple(old - known))


def _listed(url: str) -> dict[str, Mapping[str, Any]]:
    from fsspec.core import url_to_fs

    try:
        storage, path = url_to_fs(f"{url}*" if url.endswith("/") else url)
        storage.invalidate_cache()  # fsspec remembers listings
        entries = storage.glob(path, detail=True)
        return {
            storage.unstrip_protocol(name): facts for name, facts in entries.items() if facts.get("type") != "directory"
        }
    except ImportError as error:
        raise MLOpsError(
            f"{url} cannot be watched: {error}.", hint="Install the package for this storage beside jupyter-mlops."
        ) from error
    except Exception as error:  # each storage has errors of its own
        raise MLOpsError(f"{url} cannot be listed: {type(error).__name__}: {error}.") from error


def _first(facts: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((facts[name] for name in names if facts.get(name) is not None), None)


def _moment(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=timezone.utc)
    if isinstance(value, (int, float)):
        return datetime.fromtimestamp(value, timezone.utc)
    if isinstance(value, str):
        try:
            return _moment(datetime.fromisoformat(value.replace("Z", "+00:00")))
        except ValueError:
            return None
    return None
