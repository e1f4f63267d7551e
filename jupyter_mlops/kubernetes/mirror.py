"""What a namespace has of our runs, kept in mind, so that looking at hundreds of them costs what looking at one does.

Jobs and Pods are listed once and, when they are asked for again soon, followed by one watch each; nothing is asked for
each run. It may be a moment behind, so what ends a run for good is asked anew (`watch.Watch`). Knows the API and the
labels; what the objects mean is decided elsewhere.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ..errors import KubernetesError
from . import names
from .api import Api

Object = dict[str, Any]

_KEPT = 30.0
"""Seconds without a question after which nothing is followed any more."""
_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
_FRESH = 2.0
"""Seconds for which what explains a delay (nodes, events) is new enough."""
_SHARE = 20.0
"""Of the time, at most one part in so many is spent on asking for that."""
_ALONE = 2
"""So many runs are followed each by itself; from there on all of the namespace are, in one."""
_OURS = {names.MANAGED_BY_LABEL: names.PRODUCT}
_UNREAD = ("env", "volumeMounts", "command", "securityContext")
"""Fields of a container that nobody here reads, and that are most of its size."""


class Mirror:
    """The Jobs and Pods of one run, or of all in the namespace, as they were a moment ago at most.

    Args:
        api: Where they are.
        labels: What they have in common.
        wide: Whether they are many: then their events are read all at once.
    """

    def __init__(self, api: Api, labels: Mapping[str, str], *, wide: bool) -> None:
        self._api = api
        self._wide = wide
        self._jobs, self._pods = _Followed(api, "jobs", labels), _Followed(api, "pods", labels)
        self._nodes, self._all_pods, self._workloads, self._all_events = _Aged(), _Aged(), _Aged(), _Aged()

    @property
    def is_used(self) -> bool:
        """Whether somebody asked not long ago."""
        return self._jobs.is_used

    def refresh(self) -> None:
        """Have the objects as they are now, or are followed; to be called before each look at one or many of them.

        Raises:
            KubernetesError: they cannot be seen.
        """
        self._jobs.refresh()
        self._pods.refresh()

    def job(self, name: str) -> Object | None:
        """The Job of that name, or None: it was not there."""
        return self._jobs.named(name)

    def pods(self, run: str) -> list[Object]:
        """The pods with that value of the run's label."""
        return self._pods.of_run(run)

    def nodes(self) -> list[Object] | None:
        """The nodes, or None: one may not read them."""
        return self._nodes.get(lambda: self._api.find_if_allowed("nodes"))

    def all_pods(self) -> list[Object] | None:
        """The pods of all namespaces, or None: one may not read them."""
        return self._all_pods.get(lambda: self._api.find_if_allowed("pods", everywhere=True))

    def workloads(self) -> list[Object] | None:
        """Kueue's Workloads of the namespace, or None: one may not read them, or there is no such thing."""
        return self._workloads.get(lambda: self._api.find_if_allowed("workloads"))

    def events(self, things: Sequence[Mapping[str, Any]]) -> list[Object]:
        """The events about these objects."""
        if not things:
            return []
        if not self._wide:
            return events_about(self._api, things)
        wanted = {thing["metadata"]["uid"] for thing in things}
        known = self._all_events.get(lambda: [_slim_event(event) for event in self._api.find("events")]) or []
        return [event for event in known if event["involvedObject"].get("uid") in wanted]


def events_about(api: Api, things: Iterable[Mapping[str, Any]]) -> list[Object]:
    """The events about these objects, asked for one by one."""
    selectors = [f"involvedObject.uid={thing['metadata']['uid']}" for thing in things]
    return [event for selector in selectors for event in api.find("events", fields=selector)]


def mirror_of_all(api: Api) -> Mirror:
    """The mirror of all runs in the namespace; one for all who ask in this process."""
    with _LOCK:
        return _mirror(api, _OURS, wide=True)


def mirror_of_run(api: Api, selector: Mapping[str, str]) -> Mirror:
    """The mirror in which to follow a run: its own, or where several are followed the one of all.

    A person who follows one run in a namespace with hundreds does not want to hear of all of them.
    """
    with _LOCK:
        known = {labels for whose, labels in _used() if whose is api}
        crowded = _key(_OURS) in known or (_key(selector) not in known and len(known) >= _ALONE)
        return _mirror(api, _OURS if crowded else selector, wide=crowded)


_Key = tuple[tuple[str, str], ...]
_LOCK = threading.Lock()
_MIRRORS: dict[tuple[Api, _Key], Mirror] = {}


def _mirror(api: Api, labels: Mapping[str, str], *, wide: bool) -> Mirror:
    _used()
    return _MIRRORS.setdefault((api, _key(labels)), Mirror(api, labels, wide=wide))


def _used() -> list[tuple[Api, _Key]]:
    """Those that somebody looks into; the others are forgotten."""
    for key in [key for key, mirror in _MIRRORS.items() if not mirror.is_used]:
        del _MIRRORS[key]
    return list(_MIRRORS)


def _key(labels: Mapping[str, str]) -> _Key:
    return tuple(sorted(labels.items()))


class _Aged:
    """Something that is asked for anew only when it has become old."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._value: list[Object] | None = None
        self._until = 0.0

    def get(self, ask: Callable[[], list[Object] | None]) -> list[Object] | None:
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                self._value = ask()
                took = time.monotonic() - began
                self._until = began + took + max(_FRESH, _SHARE * took)
            return self._value


class _Followed:
    """The objects of one resource with certain labels.

    The first question lists them. Another one soon after lists once more and has a thread follow them from there, for
    as long as somebody asks.
    """

    def __init__(self, api: Api, resource: str, labels: Mapping[str, str]) -> None:
        self._api, self._resource, self._labels = api, resource, labels
        self._lock = threading.Lock()
        self._by_uid: dict[str, Object] = {}
        self._by_run: dict[str, dict[str, Object]] = {}
        self._by_name: dict[str, str] = {}
        self._version = ""
        self._asked, self._listed = time.monotonic(), float("-inf")
        self._times = 0
        self._thread: threading.Thread | None = None
        self._problem: KubernetesError | None = None

    @property
    def is_used(self) -> bool:
        return time.monotonic() - self._asked < _KEPT

    def refresh(self) -> None:
        asked = time.monotonic()
        with self._lock:
            again = self._times > 0 and asked - self._asked < _KEPT
            self._asked, self._times = time.monotonic(), self._times + 1
            if self._thread is not None:
                if self._problem is not None:
                    raise self._problem
                return
            if self._listed >= asked:  # somebody else asked at the same time
                return
            began = time.monotonic()
            self._replace(*self._api.listing(self._resource, labels=self._labels))
            self._listed = began
            if again:
                self._thread = threading.Thread(target=self._follow, name=f"mlops-{self._resource}", daemon=True)
                self._thread.start()

    def named(self, name: str) -> Object | None:
        with self._lock:
            return self._by_uid.get(self._by_name.get(name, ""))

    def of_run(self, run: str) -> list[Object]:
        with self._lock:
            return list(self._by_run.get(run, {}).values())

    def _follow(self) -> None:
        pause = _PAUSE
        while True:
            with self._lock:
                if not self.is_used:
                    self._thread = self._problem = None
                    self._replace([], "")
                    return
            try:
                if not self._version:
                    listed = self._api.listing(self._resource, labels=self._labels)
                    with self._lock:
                        self._replace(*listed)
                changes = self._api.watch(self._resource, labels=self._labels, version=self._version)
            except KubernetesError as error:
                if error.code == "kubernetes_expired":
                    self._version = ""
                else:
                    self._problem = error
                time.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - so that clients do not come at once
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            self._problem, pause = None, _PAUSE
            self._take(changes)

    def _take(self, changes: Iterator[Object]) -> None:
        """Until the stream ends or breaks; if nobody answers then, the next one tells."""
        try:
            for change in changes:
                thing = change.get("object") or {}
                with self._lock:
                    if change.get("type") == "DELETED":
                        self._remove(thing)
                    elif change.get("type") != "BOOKMARK":
                        self._put(thing)
                    self._version = str((thing.get("metadata") or {}).get("resourceVersion") or self._version)
        except KubernetesError as error:
            if error.code == "kubernetes_expired":
                self._version = ""

    def _replace(self, things: Iterable[Object], version: str) -> None:
        self._by_uid, self._by_run, self._by_name = {}, {}, {}
        for thing in things:
            self._put(thing)
        self._version = version

    def _put(self, thing: Object) -> None:
        metadata = thing["metadata"]
        slim = self._by_uid[metadata["uid"]] = _slim(thing)
        self._by_name[metadata["name"]] = metadata["uid"]
        self._by_run.setdefault((metadata.get("labels") or {}).get(names.RUN_LABEL, ""), {})[metadata["uid"]] = slim

    def _remove(self, thing: Object) -> None:
        metadata = thing["metadata"]
        run = (metadata.get("labels") or {}).get(names.RUN_LABEL, "")
        self._by_uid.pop(metadata["uid"], None)
        if self._by_name.get(metadata["name"]) == metadata["uid"]:
            del self._by_name[metadata["name"]]
        with suppress(KeyError):
            del self._by_run[run][metadata["uid"]]
            if not self._by_run[run]:
                del self._by_run[run]


def _slim(thing: Object) -> Object:
    """The object without what is large and of no use for telling how a run stands."""
    metadata, spec = dict(thing["metadata"]), dict(thing.get("spec") or {})
    metadata.pop("managedFields", None)
    for field in ("template", "volumes"):
        spec.pop(field, None)
    if "containers" in spec:
        spec["containers"] = [
            {key: value for key, value in each.items() if key not in _UNREAD} for each in spec["containers"]
        ]
    return {**thing, "metadata": metadata, "spec": spec}


def _slim_event(event: Object) -> Object:
    kept = ("reason", "message", "type", "lastTimestamp", "eventTime", "firstTimestamp", "series")
    about = event.get("involvedObject") or {}
    when = {"creationTimestamp": (event.get("metadata") or {}).get("creationTimestamp")}
    return {
        **{key: event[key] for key in kept if event.get(key)},
        "metadata": when, "involvedObject": {"uid": about.get("uid")},
    }  # fmt: skip
