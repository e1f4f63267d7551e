"""What can be done with warm Dask clusters, beside `runs`: start, list, connect, scale, stop.

The command line and the magics call these functions, nothing below. A cluster ends by itself when it is idle or its
lifetime is over, so that whoever forgets it holds no GPU.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from .cluster_spec import ClusterSpec
from .config import MLOps, load_config
from .errors import (
    ClusterError,
    ConfigError,
    KubernetesError,
    MLOpsError,
    NotFoundError,
    ProfileError,
    UsageError,
    nearest,
)
from .identity import current_user
from .profile import DNS_LABEL, Profile
from .warm import calls, known, local, pods
from .warm.known import CA_FILE, CERTIFICATE_FILE, KEY_FILE, Known
from .warm.reach import Reached, reach

if TYPE_CHECKING:
    from distributed import Client

RUNNERS = ("local", "kubernetes")
RUNNER = "cluster"
"""The runner of runs on a cluster."""
_FIRST_WORKER = 120.0
_ANSWER = 120.0


@dataclass(frozen=True)
class ClusterRecord:
    """How a cluster stands.

    Attributes:
        name: The person's; of one that was started elsewhere, its id where this machine has another of the name.
        state: starting, running, away (it does not answer), ended.
        profile: Name of its profile; empty where it is not known here.
        where: "this machine", or context, namespace and Job in Kubernetes.
        workers: Dask workers that are there.
        gpus: GPUs of the profile.
        idle_left: Seconds until it ends if nothing happens.
        lifetime_left: Seconds until it ends in any case.
        runs: Runs that are under way on it.
        ready: Whether an engine waits for the next run.
        here: Whether it was started from this machine, so that it can be used from here.
    """

    name: str
    state: str
    profile: str = ""
    where: str = ""
    workers: int | None = None
    gpus: int | None = None
    idle_left: float | None = None
    lifetime_left: float | None = None
    runs: tuple[str, ...] = ()
    ready: bool = False
    here: bool = True

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.__dict__, "runs": list(self.runs)}


@dataclass
class Clusters:
    """The clusters of one configuration.

    Attributes:
        config: The settings.
    """

    config: MLOps = field(default_factory=load_config)

    def start(
        self,
        profile: Profile,
        *,
        name: str | None = None,
        idle_timeout: float | None = None,
        lifetime: float | None = None,
        told: Callable[[str], None] = lambda _text: None,
    ) -> Known:
        """Start a cluster and wait until its head answers and a first worker is there.

        Args:
            profile: The resources.
            name: What to call it; default: the profile's name, with a number if that is taken.
            idle_timeout: Seconds without a task or a run after which it ends; default: the configuration's.
            lifetime: Seconds after which it ends in any case; default: the configuration's.
            told: Takes what it is doing or waiting for, for the person.

        Raises:
            UsageError: the name or the profile; nothing was created.
            MLOpsError: it did not start; nothing of it is left.
        """
        from .runner.local import LocalRunner

        spec = self._spec(profile, name, idle_timeout, lifetime)
        if profile.runner == "kubernetes":
            pods.check(spec)
            issued = pods.certificates(spec)
        else:
            LocalRunner(self.config).check(spec.as_run())
            issued = _certificates(spec)
        cluster = known.remember(
            self.config, spec, {CA_FILE: issued.ca, CERTIFICATE_FILE: issued.certificate, KEY_FILE: issued.key}
        )
        if profile.runner == "local":
            local.start(cluster, self.config, told=told)
            return cluster
        try:
            pods.create(cluster)
            pods.wait_for_head(cluster, told=told)
            _wait_for_worker(cluster, told)
        except BaseException:  # Ctrl-C too: nothing may hold GPUs that nobody knows of
            with suppress(MLOpsError):
                self._end(cluster)
            raise
        return cluster

    def find(self, *, everywhere: bool = True, told: Callable[[str], None] = lambda _text: None) -> list[ClusterRecord]:
        """The clusters of this machine, and those of the same person in Kubernetes that were started elsewhere.

        A cluster that has ended is forgotten here.

        Args:
            everywhere: Look in Kubernetes for those that are not known here.
            told: Takes why Kubernetes could not be asked.
        """
        mine = known.all_known(self.config)
        found = [record for each in mine if (record := self._record(each)) is not None]
        if everywhere:
            ids = {each.spec.cluster_id for each in mine}
            found += [
                ClusterRecord(
                    name=each.name if each.name not in {one.name for one in found} else each.cluster_id,
                    state="starting" if each.lifetime_left is None else "running", where=_where(each.place),
                    lifetime_left=each.lifetime_left, here=False,
                )
                for each in self._foreign(told)
                if each.cluster_id not in ids and not each.ended
            ]  # fmt: skip
        return found

    def get(self, name: str) -> ClusterRecord:
        """How one stands.

        Raises:
            NotFoundError: there is none, or it has ended.
        """
        record = self._record(known.known(self.config, name))
        if record is None:
            raise NotFoundError(f"The cluster '{name}' has ended.", hint="Start another: jupyter mlops cluster start")
        return record

    def profile_of(self, name: str) -> Profile:
        """The profile of a run on that cluster: the cluster's, by the runner that hands runs to it.

        Raises:
            NotFoundError: there is no such cluster.
        """
        return known.known(self.config, name).spec.profile.model_copy(update={"runner": RUNNER})

    def connect(self, name: str) -> Client:
        """A client in this process, which `get_client()` and Dask use from then on; the cluster outlives it.

        Raises:
            MLOpsError: the cluster is gone, or cannot be reached.
        """
        from distributed import Client

        from .cluster.client import hold_client

        cluster = known.known(self.config, name)
        head = reach(cluster)
        try:
            client = Client(
                head.address, security=head.security, timeout=_ANSWER, asynchronous=False, set_as_default=True
            )  # fmt: skip
        except Exception as error:
            head.close()
            raise ClusterError(
                f"The cluster '{name}' does not answer: {type(error).__name__}: {error}", code="cluster_away"
            ) from error
        hold_client(client, name, head.close)
        return client

    def scale(self, name: str, workers: int) -> int:
        """Have more or fewer Dask workers; those that go hand their data to the others first.

        Args:
            name: Of the cluster.
            workers: How many.

        Returns:
            The number that it comes to: on Kubernetes that of whole pods.

        Raises:
            UsageError: there is no such cluster, or it cannot be made so large or small.
        """
        cluster = known.known(self.config, name)
        if cluster.place is not None:
            comes_to = pods.resize(cluster, workers)
            with suppress(ClusterError), reach(cluster) as head:
                head.call(calls.SCALE, workers=comes_to)  # it is in use
            return comes_to
        _check_size(cluster.spec.profile, workers)
        with reach(cluster) as head:
            head.call(calls.SCALE, workers=workers)
        return workers

    def stop(self, name: str) -> None:
        """End a cluster and everything of it; runs on it are cancelled.

        Args:
            name: Of the cluster, or the id of one that was started elsewhere.

        Raises:
            NotFoundError: there is none.
            MLOpsError: it cannot be ended.
        """
        mine = {each.spec.name: each for each in known.all_known(self.config)}
        if name in mine:
            from .cluster.client import quiet_client

            quiet_client(name)
            self._end(mine[name])
            return
        problems: list[str] = []
        foreign = [each for each in self._foreign(problems.append) if name in (each.name, each.cluster_id)]
        if not foreign:
            hint = nearest(name, mine, noun="cluster") if mine else "`jupyter mlops cluster list` lists them."
            raise NotFoundError(f"There is no cluster '{name}'.", hint=" ".join([*problems, hint]))
        if len(foreign) > 1:
            ids = ", ".join(each.cluster_id for each in foreign)
            raise UsageError(f"Several clusters are called '{name}'.", hint=f"Name one by its id: {ids}.")
        pods.delete(foreign[0].place)

    def reach(self, name: str, *, forwarded: bool = False) -> Reached:
        """A way to the head of a cluster, to be closed by who asked; see `warm.reach`.

        Raises:
            MLOpsError: there is none.
        """
        return reach(known.known(self.config, name), forwarded=forwarded)

    def _spec(
        self, profile: Profile, name: str | None, idle_timeout: float | None, lifetime: float | None
    ) -> ClusterSpec:
        if profile.runner not in RUNNERS:
            raise ProfileError(
                f"The profile '{profile.name}' is of the runner '{profile.runner}', which has no clusters.",
                hint=f"Clusters can be had with: {', '.join(RUNNERS)}.",
            )
        if name is not None and DNS_LABEL.fullmatch(name) is None:
            raise UsageError(
                f"{name!r} is no name for a cluster.", hint="Use lower-case letters, digits and '-', at most 63."
            )
        self.find(everywhere=False)  # one that has ended leaves its name
        return ClusterSpec(
            name=name or self._free_name(profile.name),
            profile=profile,
            owner=current_user(),
            tracking_uri=self.config.mlflow_uri_shown(),
            idle_timeout=idle_timeout or self.config.cluster_idle_timeout,
            lifetime=lifetime or self.config.cluster_lifetime,
        )

    def _free_name(self, profile: str) -> str:
        base = re.sub(r"[^a-z0-9]+", "-", profile.lower()).strip("-")[:50].rstrip("-") or "cluster"
        taken = {each.spec.name for each in known.all_known(self.config)}
        number = 2
        name = base
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        return name

    def _record(self, cluster: Known) -> ClusterRecord | None:
        """How it stands; None, and it is forgotten, when it has ended."""
        spec = cluster.spec
        place = cluster.place
        facts: dict[str, Any] = {
            "name": spec.name, "profile": spec.profile.name, "gpus": spec.profile.gpus,
            "where": "this machine" if place is None else _where(place),
        }  # fmt: skip
        try:
            with reach(cluster) as head:
                told = head.call(calls.STATE)
        except ClusterError as error:
            if error.code == "cluster_gone":
                cluster.forget()
                return None
            starting = cluster.head is None and place is None
            return ClusterRecord(**facts, state="starting" if starting else "away", lifetime_left=_lifetime_left(spec))
        except (KubernetesError, ConfigError):
            return ClusterRecord(**facts, state="away", lifetime_left=_lifetime_left(spec))
        return ClusterRecord(
            **facts, state="running", workers=told["workers"], idle_left=told["idle_left"],
            lifetime_left=told["lifetime_left"], runs=tuple(told["runs"]), ready=told["ready"],
        )  # fmt: skip

    def _foreign(self, told: Callable[[str], None]) -> list[pods.Found]:
        profiles = [each for each in self.config.all_profiles().values() if each.runner == "kubernetes"]
        if not profiles:
            return []
        try:
            return pods.clusters_of(current_user(), profiles)
        except (KubernetesError, ConfigError) as error:
            told(error.message)
            return []

    def _end(self, cluster: Known) -> None:
        if cluster.place is None:
            if cluster.spec.profile.runner == "local":
                local.end(cluster)
        else:
            pods.api_of(cluster)  # the kubeconfig must lead to where it is
            pods.delete(cluster.place)
        cluster.forget()


def _certificates(spec: ClusterSpec) -> Any:
    from .cluster.local import can_import

    if not can_import("cryptography"):
        raise ConfigError(
            "A cluster needs a certificate, and 'cryptography' is not installed.",
            hint="pip install 'jupyter-mlops[kubernetes]'", code="extra",
        )  # fmt: skip
    return pods.certificates(spec)


def _wait_for_worker(cluster: Known, told: Callable[[str], None]) -> None:
    told("waiting for the Dask scheduler and a first worker")
    deadline = time.monotonic() + _FIRST_WORKER
    while True:
        try:
            with reach(cluster) as head:
                if head.call(calls.STATE)["workers"]:
                    return
            problem = "no Dask worker has come"
        except ClusterError as error:
            if error.code == "cluster_gone":
                raise
            problem = error.message
        if time.monotonic() > deadline:
            raise ClusterError(f"The cluster '{cluster.spec.name}' did not start: {problem}.")
        time.sleep(0.5)


def _check_size(profile: Profile, workers: int) -> None:
    if workers < 1:
        raise UsageError("A cluster has at least one worker.", hint="To end it: jupyter mlops cluster stop")
    most = profile.gpus or max(Profile(name="all").cpu_count(), profile.workers or 1)
    if workers > most:
        what = "GPUs" if profile.gpus else "cores"
        raise UsageError(f"{workers} workers are more than this machine carries.", hint=f"It has {most} {what}.")


def _where(place: known.Place) -> str:
    context = f"{place.context}, " if place.context else ""
    return f"{context}{place.namespace}/{place.name}"


def _lifetime_left(spec: ClusterSpec) -> float:
    age = (datetime.now(timezone.utc) - spec.create_time).total_seconds()
    return max(0.0, spec.lifetime - age)
