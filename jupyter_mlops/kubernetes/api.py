"""The Kubernetes API of one context and namespace: few verbs, objects as plain dicts, every refusal an error of ours.

The only place that uses the `kubernetes` client, and for what is hard: kubeconfig, logins, certificates. The calls are
made here, so that objects stay as the API gives them and each call has a bound in time. Knows no run.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from ..errors import ConfigError, KubernetesError, nearest
from .api_errors import explain_api_error

_GROUPS = {
    "jobs": "/apis/batch/v1", "networkpolicies": "/apis/networking.k8s.io/v1",
    "workloads": "/apis/kueue.x-k8s.io/v1beta1",
    "localqueues": "/apis/kueue.x-k8s.io/v1beta1",
    "selfsubjectaccessreviews": "/apis/authorization.k8s.io/v1",
    "selfsubjectreviews": "/apis/authentication.k8s.io/v1",
    **dict.fromkeys(("pods", "services", "secrets", "events", "nodes", "namespaces", "resourcequotas"), "/api/v1"),
}  # fmt: skip
_WITHOUT_NAMESPACE = frozenset({"nodes", "namespaces", "selfsubjectaccessreviews", "selfsubjectreviews"})
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_CONNECT, _READ = 5.0, 30.0
"""Seconds; a log that is followed has a line more often than that, or is looked at again."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0
_PAGE = 500
_CONNECTIONS = 32
"""Kept open: each log that is followed has one for itself, and urllib3 complains of every one beyond its number."""
_WATCHED = 25
"""Seconds of one watch: less than `_READ`, so that a connection that was lost without a word is noticed."""
_NOT_BY_REPEATING = ("kubernetes_conflict", "kubernetes_expired")


@dataclass(frozen=True)
class _Access:
    pool: Any
    configuration: Any
    host: str
    namespace: str


class Api:
    """Calls to one Kubernetes.

    Args:
        context: Context of the kubeconfig; None: the current one, or without a kubeconfig the pod's own account.
        namespace: Where; None: that of the context or of the pod.
        patience: Seconds that a call is repeated while Kubernetes is busy, away or in trouble.

    Attributes:
        host: The API server's address.
        namespace: The namespace.

    Raises:
        ConfigError: there is no kubeconfig, no such context, or it cannot be used; or the client is not installed.
    """

    def __init__(self, context: str | None = None, namespace: str | None = None, *, patience: float = 10.0) -> None:
        self._context = context
        self._patience = patience
        self._version: tuple[int, int] | None = None
        self._access = _load(context)
        self.host = self._access.host
        self.namespace = namespace or self._access.namespace

    def version(self) -> tuple[int, int]:
        """The server's version, such as (1, 34); asked once."""
        if self._version is None:
            found = self._json("GET", "/version")
            digits = ["".join(char for char in str(found.get(key, "")) if char.isdigit()) for key in ("major", "minor")]
            self._version = int(digits[0] or 1), int(digits[1] or 0)
        return self._version

    def create(self, resource: str, manifest: Mapping[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Make an object; gives it as the server holds it.

        Args:
            resource: Plural, such as `jobs`.
            manifest: The object.
            dry_run: Have everything checked, and make nothing.
        """
        query = {"dryRun": "All"} if dry_run else {}
        return self._json("POST", self._path(resource), query=query, body=manifest)

    def get(self, resource: str, name: str) -> dict[str, Any] | None:
        """An object, or None: there is none."""
        try:
            return self._json("GET", self._path(resource, name))
        except KubernetesError as error:
            if error.code == "kubernetes_not_found":
                return None
            raise

    def find(
        self, resource: str, *, labels: Mapping[str, str] | None = None, fields: str = "", everywhere: bool = False
    ) -> list[dict[str, Any]]:
        """The objects that match.

        Args:
            resource: Plural.
            labels: Labels that they have.
            fields: A field selector.
            everywhere: In all namespaces.
        """
        return self.listing(resource, labels=labels, fields=fields, everywhere=everywhere)[0]

    def listing(
        self, resource: str, *, labels: Mapping[str, str] | None = None, fields: str = "", everywhere: bool = False
    ) -> tuple[list[dict[str, Any]], str]:
        """The objects that match, and the version from which on `watch` tells what changed; arguments as of `find`."""
        query = {"limit": str(_PAGE), **_label_selector(labels)}
        if fields:
            query["fieldSelector"] = fields
        found: list[dict[str, Any]] = []
        while True:
            page = self._json("GET", self._path(resource, everywhere=everywhere), query=query)
            found += page.get("items") or ()
            about = page.get("metadata") or {}
            if not about.get("continue"):
                return found, str(about.get("resourceVersion") or "")
            query["continue"] = about["continue"]

    def watch(
        self, resource: str, *, labels: Mapping[str, str] | None = None, version: str
    ) -> Iterator[dict[str, Any]]:
        """What changes, as `{"type": ..., "object": ...}`; asked at once, and over after some seconds.

        Args:
            resource: Plural.
            labels: Labels that the objects have.
            version: Of a `listing`, or of the last object that was told.

        Raises:
            KubernetesError: it cannot be had, the connection was lost, or the version is too old (then list anew).
        """
        path = self._path(resource)
        query = {
            "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version,
            "timeoutSeconds": str(_WATCHED), **_label_selector(labels),
        }  # fmt: skip
        return self._changes(path, self._request("GET", path, query=query, stream=True))

    def _changes(self, path: str, answer: Any) -> Iterator[dict[str, Any]]:
        for line in self._lines(path, answer):
            try:
                change = json.loads(line)
            except ValueError:
                return  # cut in the middle: the next watch goes on from the last whole one
            if change.get("type") == "ERROR":
                status = change.get("object") or {}
                raise explain_api_error(
                    int(status.get("code") or 500), method="GET", url=f"{self.host}{path}",
                    body=json.dumps(status).encode(), context=self._context,
                )  # fmt: skip
            yield change

    def find_if_allowed(self, resource: str, *, everywhere: bool = False) -> list[dict[str, Any]] | None:
        """The objects, or None where one may not read them or there is no such thing."""
        try:
            return self.find(resource, everywhere=everywhere)
        except KubernetesError as error:
            if error.code in ("kubernetes_forbidden", "kubernetes_no_resource", "kubernetes_not_found"):
                return None
            raise

    def patch(self, resource: str, name: str, change: Mapping[str, Any]) -> dict[str, Any]:
        """Change fields of an object (merge patch)."""
        return self._json("PATCH", self._path(resource, name), body=change, kind="application/merge-patch+json")

    def delete(self, resource: str, name: str, *, uid: str | None = None) -> bool:
        """Have an object deleted after what it owns; returns at once.

        Args:
            resource: Plural.
            name: Its name.
            uid: Delete it only if it is this one.

        Returns:
            Whether it was there.
        """
        body: dict[str, Any] = {"propagationPolicy": "Foreground"}
        if uid:
            body["preconditions"] = {"uid": uid}
        try:
            self._json("DELETE", self._path(resource, name), body=body)
        except KubernetesError as error:
            # A conflict says that the one of this name has another uid.
            if error.code == "kubernetes_not_found" or (uid and error.code == "kubernetes_conflict"):
                return False
            raise
        return True

    def log(self, pod: str, *, container: str, follow: bool = False, since: str = "") -> Iterator[str]:
        """The lines that a pod printed, with Kubernetes' time stamps; a line without an end is left out if it was cut.

        Args:
            pod: Its name.
            container: Of the pod.
            follow: Go on while it runs.
            since: Only lines from this moment on (RFC 3339).

        Raises:
            KubernetesError: it cannot be read, or the connection was lost; then read it again.
        """
        query = {"container": container, "timestamps": "true"}
        if follow:
            query["follow"] = "true"
        if since:
            query["sinceTime"] = since
        path = f"{self._path('pods', pod)}/log"
        for line in self._lines(path, self._request("GET", path, query=query, stream=True)):
            yield line.decode("utf-8", "replace")

    def _lines(self, path: str, answer: Any) -> Iterator[bytes]:
        rest = b""
        try:
            for block in answer.stream(2**16, decode_content=True):
                *lines, rest = (rest + block).split(b"\n")
                yield from lines
            if rest:
                yield rest
        except GeneratorExit:
            raise
        except Exception as error:
            raise self._no_answer("GET", path, error) from error
        finally:
            answer.close()
            answer.release_conn()

    def port_forward(self, pod: str, port: int) -> socket.socket:
        """A websocket to a pod's port, of Kubernetes' protocol `v4.channel.k8s.io`; see `forward.PortForward`.

        Raises:
            KubernetesError: it is not allowed, there is no such pod, or no connection.
        """
        path = f"{self._path('pods', pod)}/portforward"
        try:
            return self._websocket(path, {"ports": str(port)}, protocol="v4.channel.k8s.io")
        except KubernetesError as error:
            if error.code != "kubernetes_login":
                raise
            self._access = _load(self._context)
            return self._websocket(path, {"ports": str(port)}, protocol="v4.channel.k8s.io")

    def _websocket(self, path: str, query: Mapping[str, str], *, protocol: str) -> socket.socket:
        from .websocket import RefusedError, open_websocket

        access = self._access
        url = f"{access.host}{path}?{urlencode(query)}"
        try:
            return open_websocket(access.configuration, url, _login(access.configuration), protocol=protocol)
        except RefusedError as refused:
            raise explain_api_error(
                refused.status, method="GET", url=url, body=refused.body, context=self._context
            ) from refused
        except Exception as error:
            raise self._no_answer("GET", path, error) from error

    def _path(self, resource: str, name: str = "", *, everywhere: bool = False) -> str:
        place = "" if everywhere or resource in _WITHOUT_NAMESPACE else f"/namespaces/{quote(self.namespace, safe='')}"
        return f"{_GROUPS[resource]}{place}/{resource}" + (f"/{quote(name, safe='')}" if name else "")

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str = "application/json",
    ) -> dict[str, Any]:
        answer = self._request(method, path, query=query, body=body, kind=kind)
        found = json.loads(answer.data)
        return found if isinstance(found, dict) else {}

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        kind: str = "application/json",
        stream: bool = False,
    ) -> Any:
        """One call, repeated while that may help and the patience lasts."""
        deadline = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        renewed = False
        while True:
            try:
                return self._once(method, path, query=query or {}, body=body, kind=kind, stream=stream)
            except KubernetesError as error:
                if error.code == "kubernetes_login" and not renewed:
                    # A token that was renewed in the kubeconfig's file since it was read.
                    renewed = True
                    self._access = _load(self._context)
                    continue
                passes = error.retryable and error.code not in _NOT_BY_REPEATING
                if not passes or time.monotonic() + pause > deadline:
                    raise
            time.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 - so that many clients do not come at once
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _once(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None,
        kind: str,
        stream: bool,
    ) -> Any:
        import urllib3

        access = self._access
        headers = {"Accept": "application/json, */*", "User-Agent": "jupyter-mlops"}
        data = None
        if body is not None:
            headers["Content-Type"] = kind
            data = json.dumps(body).encode()
        url = f"{access.host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            headers.update(_login(access.configuration))
            answer = access.pool.request(
                method, url, headers=headers, body=data, retries=False, redirect=False, preload_content=not stream,
                timeout=urllib3.Timeout(connect=_CONNECT, read=_READ),
            )  # fmt: skip
        except Exception as error:
            raise self._no_answer(method, path, error) from error
        if 200 <= answer.status < 300:
            return answer
        told = answer.data
        answer.release_conn()
        raise explain_api_error(answer.status, method=method, url=url, body=told, context=self._context)

    def _no_answer(self, method: str, path: str, error: Exception) -> KubernetesError:
        if isinstance(error, KubernetesError):
            return error
        return explain_api_error(
            None, method=method, url=f"{self.host}{path}", error=f"{type(error).__name__}: {error}",
            context=self._context,
        )  # fmt: skip


def api_for(context: str | None = None, namespace: str | None = None, *, patience: float = 10.0) -> Api:
    """The calls to this context and namespace; one object for all who ask in this process.

    Another one when the kubeconfig has changed since: a person may switch its context while a kernel runs.
    """
    files = tuple(Path(file).expanduser() for file in _kubeconfig().split(os.pathsep) if file)
    changed = tuple((str(file), file.stat().st_mtime_ns) for file in files if file.exists())
    return _api_for(context, namespace, patience, changed)


@lru_cache(maxsize=16)
def _api_for(context: str | None, namespace: str | None, patience: float, _changed: tuple[tuple[str, int], ...]) -> Api:
    return Api(context, namespace, patience=patience)


def _kubeconfig() -> str:
    # Not the client's own default, which it took from the environment when it was first imported.
    return os.environ.get("KUBECONFIG") or "~/.kube/config"


def _load(context: str | None) -> _Access:
    """Whom to call and how to log in.

    Raises:
        ConfigError: see `Api`.
    """
    try:
        from kubernetes import client
        from kubernetes.config import incluster_config, kube_config
    except ImportError as error:
        raise ConfigError(
            "Kubernetes' client is not installed.", hint="pip install 'jupyter-mlops[kubernetes]'", code="extra"
        ) from error
    file = _kubeconfig()
    configuration = client.Configuration()
    # The client's own types come and go between its versions.
    in_cluster: Any = incluster_config.load_incluster_config
    known_contexts: Any = kube_config.list_kube_config_contexts
    load: Any = kube_config.load_kube_config
    try:
        if context is None and not _exists(file) and os.environ.get("KUBERNETES_SERVICE_HOST"):
            in_cluster(client_configuration=configuration)
            namespace = _own_namespace()
        else:
            contexts, current = known_contexts(config_file=file)
            chosen = next((each for each in contexts if each["name"] == context), None) if context else current
            if chosen is None:
                raise ConfigError(
                    f"The kubeconfig has no context '{context}'.",
                    hint=nearest(str(context), [each["name"] for each in contexts], noun="context"),
                    code="kubernetes_context",
                )
            load(config_file=file, context=chosen["name"], client_configuration=configuration, persist_config=False)
            namespace = (chosen.get("context") or {}).get("namespace") or "default"
    except ConfigError:
        raise
    except Exception as error:
        if not _exists(file):
            raise ConfigError(
                f"There is no kubeconfig: {file} does not exist.",
                hint="Ask the platform team for one, and set KUBECONFIG if it is elsewhere.",
                code="kubernetes_config",
            ) from error
        raise ConfigError(
            f"The kubeconfig {file} cannot be used: {' '.join(str(error).split())[:300]}",
            hint="`kubectl get pods` shows whether it works.",
            code="kubernetes_config",
        ) from error
    configuration.connection_pool_maxsize = _CONNECTIONS
    http = client.ApiClient(configuration=configuration)
    return _Access(http.rest_client.pool_manager, configuration, str(configuration.host).rstrip("/"), namespace)


def _label_selector(labels: Mapping[str, str] | None) -> dict[str, str]:
    return {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())} if labels else {}


def _login(configuration: Any) -> dict[str, str]:
    """The headers of the login; runs the kubeconfig's own program where it names one."""
    settings = configuration.auth_settings().values()
    return {each["key"]: each["value"] for each in settings if each.get("in") == "header" and each.get("value")}


def _exists(files: str) -> bool:
    return any(Path(file).expanduser().is_file() for file in files.split(os.pathsep) if file)


def _own_namespace() -> str:
    try:
        return (_ACCOUNT / "namespace").read_text(encoding="utf-8").strip() or "default"
    except OSError:
        return "default"
