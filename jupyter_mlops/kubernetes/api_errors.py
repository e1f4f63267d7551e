"""What it means that a call to the API server failed: expired login, missing right, wrong name, too many calls, no way.

From the answer's status and body, or from the connection's error where there was no answer. Bodies are Kubernetes'
`Status` objects, or anything at all from a proxy in between.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..errors import KubernetesError
from . import names
from .admission_reasons import is_refusal, refused
from .rights import INTERACTIVE_RIGHTS, INTERACTIVE_ROLE, Right, right, role_manifest

_FORBIDDEN = re.compile(
    r'User "([^"]*)" cannot (\S+) resource "([^"]+)" in API group "([^"]*)"'
    r'(?: in the namespace "([^"]+)"| at the cluster scope)'
)
_NO_NAMESPACE = re.compile(r'namespaces? "([^"]+)" not found')
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_KINDS = {
    "jobs": "Job", "cronjobs": "CronJob", "pods": "Pod", "services": "Service", "secrets": "Secret", "events": "Event",
    "networkpolicies": "NetworkPolicy", "workloads": "Workload",
}  # fmt: skip
_ASK = "Show this to the platform team."
_LONGEST = 500

_NO_ANSWER: tuple[tuple[str, re.Pattern[str], str, str, bool], ...] = (
    (
        "kubernetes_login",
        re.compile(r"alert (?:certificate (?:expired|unknown|required|revoked)|bad certificate)|CERTIFICATE_EXPIRED|"
                   r"CERTIFICATE_REQUIRED|ALERT_BAD_CERTIFICATE", re.IGNORECASE),
        "Kubernetes at {host} does not accept your certificate: it has expired, or is not one of its own.",
        "Get a new kubeconfig, or renew the certificate in it.", False,
    ),
    (
        "kubernetes_tls",
        re.compile(r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|x509:|SSLError|WRONG_VERSION_NUMBER",
                   re.IGNORECASE),
        "Kubernetes at {host} shows a certificate that cannot be trusted.",
        "Compare 'certificate-authority-data' and 'server' in the kubeconfig with those that the platform team gives "
        "out; a company's TLS proxy in between has the same effect.", False,
    ),
    (
        "kubernetes_dns",
        re.compile(r"Failed to resolve|Name or service not known|nodename nor servname|getaddrinfo|No address "
                   r"associated|name resolution", re.IGNORECASE),
        "The address of Kubernetes, {host}, cannot be resolved.",
        "Check 'server' in the kubeconfig, the network and the VPN.", True,
    ),
    (
        "kubernetes_proxy",
        re.compile(r"ProxyError|Tunnel connection failed|Cannot connect to proxy", re.IGNORECASE),
        "The proxy does not let through to Kubernetes at {host}.",
        "Add the host to NO_PROXY if it is inside of your network.", False,
    ),
    (
        "kubernetes_login",
        re.compile(r"\bexec: |exec plugin|ExecProvider", re.IGNORECASE),
        "The program that the kubeconfig names for the login to {host} failed.",
        "Run `kubectl get pods` with the same context: it shows what the program says.", False,
    ),
    (
        "kubernetes_unreachable",
        re.compile(r"", re.IGNORECASE),
        "Kubernetes at {host} does not answer.",
        "Check the network and the VPN. Runs that were started go on.", True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What a call was about.

    Attributes:
        verb: Kubernetes' own: create, get, list, watch, update, patch, delete.
        group: The API group; empty for the core.
        resource: Plural, with its subresource.
        namespace: Empty for what has none.
        name: Empty for a list or a creation.
        host: Host and port.
    """

    verb: str
    group: str
    resource: str
    namespace: str
    name: str
    host: str


def call_target(method: str, url: str) -> Target:
    """What a call was about, from its method and URL; parts that cannot be told are empty."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        host = f"{host}:{parts.port}" if parts.port else host
    except ValueError:
        return Target(method.lower(), "", "", "", "", "")
    path = [part for part in parts.path.split("/") if part]
    # /api/v1/… and /apis/GROUP/VERSION/…, behind whatever prefix a proxy (Rancher's, Teleport's) puts before.
    start = next((i for i, part in enumerate(path) if part in ("api", "apis")), None)
    group, rest = "", list[str]()
    if start is not None:
        core = path[start] == "api"
        group = "" if core else "".join(path[start + 1 : start + 2])
        rest = path[start + (2 if core else 3) :]
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    resource, name = "".join(rest[:1]), "".join(rest[1:2])
    if len(rest) > 2:
        resource = f"{resource}/{rest[2]}"
    verb = _VERBS.get(method.upper(), "get" if name else "list")
    if verb == "delete" and not name:
        verb = "deletecollection"
    if verb == "list" and parse_qs(parts.query).get("watch", ["false"])[-1] in ("true", "1", "True"):
        verb = "watch"
    return Target(verb, group, resource, namespace, name, host)


def explain_api_error(
    status: int | None,
    *,
    method: str,
    url: str,
    body: str | bytes | Mapping[str, Any] | None = None,
    error: str = "",
    context: str | None = None,
) -> KubernetesError:
    """The error for a person that a failed call to the API server comes to.

    Args:
        status: The HTTP status; None: there was no answer.
        method: The HTTP method.
        url: The address that was called; only its host is shown.
        body: What came back.
        error: Without an answer, what the connection said.
        context: The kubeconfig's context, for the sentence.

    Returns:
        An error whose `code` begins with `kubernetes`; `retryable` says whether the same call may succeed in a moment.
    """
    target = call_target(method, url)
    if status is None:
        return _no_answer(error, target)
    answer = _status_object(body)
    said = str(answer.get("message") or "")
    if status == 401 or (status == 403 and 'User "system:anonymous"' in said):
        where = f" (context '{context}')" if context else ""
        return _error(
            "kubernetes_login", f"Kubernetes at {target.host} does not accept your login{where}: it has expired, or is "
            "not meant for it.",
            "Log in again the way your kubeconfig came to you; `kubectl get pods` shows whether it works.",
        )  # fmt: skip
    if is_refusal(said):
        reason = refused(said)
        return _error("kubernetes_refused", reason.message, reason.hint, retryable=status >= 500)
    handler = _BY_STATUS.get(status)
    return handler(answer, said, target) if handler is not None else _other(status, said, target)


def _other(status: int, said: str, target: Target) -> KubernetesError:
    if status >= 500:
        return _error(
            "kubernetes_unavailable",
            f"Kubernetes at {target.host} has trouble of its own (HTTP {status}): {_flat(said)}",
            "It often passes. Runs that were started go on.", retryable=True,
        )  # fmt: skip
    return _error("kubernetes", f"Kubernetes refused to {_what(target)} (HTTP {status}): {_flat(said)}", _ASK)


def _no_answer(error: str, target: Target) -> KubernetesError:
    code, _, sentence, hint, retryable = next(each for each in _NO_ANSWER if each[1].search(error))
    last = f" ({_flat(error)})" if error and code == "kubernetes_unreachable" else ""
    return _error(code, sentence.format(host=target.host).removesuffix(".") + f"{last}.", hint, retryable=retryable)


def _forbidden(_answer: Mapping[str, Any], said: str, target: Target) -> KubernetesError:
    import yaml

    found = _FORBIDDEN.search(said)
    user, verb, resource, group, namespace = (
        found.groups("") if found else ("", target.verb, target.resource, target.group, target.namespace)
    )
    who = f"You ({user})" if user else "You"
    where = f"in the namespace {namespace}" if namespace else "in the whole cluster"
    message = f"{who} may not {verb} {resource} {where}."
    if not resource:
        return _error("kubernetes_forbidden", f"Kubernetes at {target.host} refuses: {_flat(said)}", _ASK)
    if not namespace:
        return _error(
            "kubernetes_forbidden", message, "Name your namespace in the profile's 'namespace', or ask for the right."
        )
    known = right(group, resource) or Right(group, resource, (verb,), "")
    called = INTERACTIVE_ROLE if known in INTERACTIVE_RIGHTS else names.PRODUCT
    role = yaml.safe_dump(role_manifest(known, namespace=namespace, name=called), sort_keys=False)
    return _error(
        "kubernetes_forbidden", message, f"Ask the platform team for this Role, bound to you:\n{role}".rstrip()
    )


def _not_found(answer: Mapping[str, Any], said: str, target: Target) -> KubernetesError:
    found = _NO_NAMESPACE.search(said)
    if found is not None:
        return _error(
            "kubernetes_no_namespace", f"There is no namespace {found[1]} in Kubernetes at {target.host}.",
            "Correct 'namespace' in the profile, or in the kubeconfig's context.",
        )  # fmt: skip
    if not answer.get("details") or "could not find the requested resource" in said:
        return _error(
            "kubernetes_no_resource", f"Kubernetes at {target.host} does not know {target.resource or 'this address'}"
            + (f" of {target.group}." if target.group else "."),
            "It may be older, or lack what the profile needs (a queue needs Kueue); else check 'server' in the "
            "kubeconfig.",
        )  # fmt: skip
    return _error("kubernetes_not_found", f"{_named(target)} is not in Kubernetes (any more).", "")


def _conflict(answer: Mapping[str, Any], said: str, target: Target) -> KubernetesError:
    if answer.get("reason") == "AlreadyExists":
        return _error("kubernetes_exists", f"{_named(target)} is in Kubernetes already: {_flat(said)}", "")
    return _error(
        "kubernetes_conflict", f"{_named(target)} was changed by somebody else meanwhile.", "Try again.", retryable=True
    )


def _gone(_answer: Mapping[str, Any], said: str, _target: Target) -> KubernetesError:
    return _error("kubernetes_expired", f"The view of Kubernetes is too old to go on from: {_flat(said)}", "List anew.",
                  retryable=True)  # fmt: skip


def _invalid(answer: Mapping[str, Any], said: str, target: Target) -> KubernetesError:
    if "HTTP request to an HTTPS server" in said:
        return _error(
            "kubernetes_tls", f"Kubernetes at {target.host} speaks HTTPS only.",
            "Write https:// before 'server' in the kubeconfig.",
        )  # fmt: skip
    causes = (answer.get("details") or {}).get("causes") or ()
    told = "; ".join(f"{cause.get('field')}: {cause.get('message')}" for cause in causes[:3]) or said
    return _error(
        "kubernetes_invalid", f"{_named(target)} is not valid for Kubernetes: {_flat(told)}",
        "A name in the profile may be wrong, or this Kubernetes is older than 1.29. If neither, please report it.",
    )  # fmt: skip


def _too_large(_answer: Mapping[str, Any], _said: str, target: Target) -> KubernetesError:
    return _error("kubernetes_invalid", f"{_named(target)} is too large for Kubernetes.", "Please report it.")


def _too_many(_answer: Mapping[str, Any], _said: str, target: Target) -> KubernetesError:
    return _error(
        "kubernetes_busy", f"Kubernetes at {target.host} is busy and asks to come back later.",
        "Try again in a moment.", retryable=True,
    )  # fmt: skip


_BY_STATUS = {
    400: _invalid, 403: _forbidden, 404: _not_found, 409: _conflict, 410: _gone, 413: _too_large, 422: _invalid,
    429: _too_many,
}  # fmt: skip


def _error(code: str, message: str, hint: str, *, retryable: bool = False) -> KubernetesError:
    error = KubernetesError(message, hint=hint, code=code)
    error.retryable = retryable
    return error


def _status_object(body: str | bytes | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if isinstance(body, str):
        try:
            found = json.loads(body)
        except ValueError:
            return {"message": _flat(re.sub(r"<[^>]*>", " ", body))}
        body = found if isinstance(found, dict) else {"message": str(found)}
    return body or {}


def _named(target: Target) -> str:
    resource = target.resource.partition("/")[0]
    kind = _KINDS.get(resource, resource or "object")
    return f"The {kind} {target.name}" if target.name else f"The {kind}"


def _what(target: Target) -> str:
    return f"{target.verb} {target.resource or 'something'}" + (f" {target.name}" if target.name else "")


def _flat(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 1] + "…"
