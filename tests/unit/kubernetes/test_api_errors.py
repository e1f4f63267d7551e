"""Bodies are those that kube-apiserver v1.34.4 gives; the messages are made in k8s.io/apimachinery, pkg/api/errors/errors.go,
and k8s.io/apiserver, pkg/endpoints/handlers/responsewriters/errors.go. What a connection says is Python's ssl, socket and
urllib3 2."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from jupyter_mlops.errors import KubernetesError
from jupyter_mlops.kubernetes.api_errors import Target, call_target, explain_api_error

HOST = "https://k8s.example.org:6443"
JOBS = f"{HOST}/apis/batch/v1/namespaces/team-a/jobs"


def status(code: int, reason: str, message: str, **details: Any) -> dict[str, Any]:
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "reason": reason, "code": code,
            **({"details": details} if details else {})}  # fmt: skip


def look(code: int | None, *, method: str = "POST", url: str = JOBS, **more: Any) -> KubernetesError:
    return explain_api_error(code, method=method, url=url, **more)


@pytest.mark.parametrize(
    ("method", "url", "target"),
    [
        ("POST", JOBS, Target("create", "batch", "jobs", "team-a", "", "k8s.example.org:6443")),
        ("GET", f"{JOBS}/x", Target("get", "batch", "jobs", "team-a", "x", "k8s.example.org:6443")),
        ("GET", f"{JOBS}?watch=true", Target("watch", "batch", "jobs", "team-a", "", "k8s.example.org:6443")),
        ("GET", f"{JOBS}?limit=1", Target("list", "batch", "jobs", "team-a", "", "k8s.example.org:6443")),
        ("PATCH", f"{JOBS}/x", Target("patch", "batch", "jobs", "team-a", "x", "k8s.example.org:6443")),
        ("DELETE", f"{JOBS}/x", Target("delete", "batch", "jobs", "team-a", "x", "k8s.example.org:6443")),
        ("DELETE", JOBS, Target("deletecollection", "batch", "jobs", "team-a", "", "k8s.example.org:6443")),
        ("GET", f"{HOST}/api/v1/namespaces/team-a/pods/x/log",
         Target("get", "", "pods/log", "team-a", "x", "k8s.example.org:6443")),
        ("GET", f"{HOST}/api/v1/nodes", Target("list", "", "nodes", "", "", "k8s.example.org:6443")),
        ("GET", f"{HOST}/api/v1/namespaces/team-a", Target("get", "", "namespaces", "", "team-a", "k8s.example.org:6443")),
        ("GET", "https://rancher.example.org/k8s/clusters/c-1/api/v1/pods",
         Target("list", "", "pods", "", "", "rancher.example.org")),
        ("GET", "https://ann:secret@k8s/version", Target("list", "", "", "", "", "k8s")),
        ("GET", "https://[", Target("get", "", "", "", "", "")),
    ],
)  # fmt: skip
def test_what_a_call_was_about_is_read_from_its_address(method: str, url: str, target: Target) -> None:
    assert call_target(method, url) == target


def test_an_expired_login_says_so_with_the_context() -> None:
    found = look(401, body=status(401, "Unauthorized", "Unauthorized"), context="prod")
    assert found.code == "kubernetes_login"
    assert "(context 'prod')" in found.message
    assert not found.retryable


def test_somebody_without_a_login_is_asked_for_one_and_not_for_a_role() -> None:
    message = (
        'jobs.batch is forbidden: User "system:anonymous" cannot list resource "jobs" in API group "batch" in the '
        'namespace "team-a"'
    )
    assert look(403, method="GET", body=status(403, "Forbidden", message)).code == "kubernetes_login"


def test_an_address_without_tls_is_told() -> None:
    found = look(400, url=JOBS.replace("https", "http"), body="Client sent an HTTP request to an HTTPS server.\n")
    assert found.code == "kubernetes_tls"
    assert "https://" in found.hint


FORBIDDEN = status(
    403, "Forbidden",
    'jobs.batch is forbidden: User "ann@example.org" cannot create resource "jobs" in API group "batch" in the namespace '
    '"team-a"', group="batch", kind="jobs",
)  # fmt: skip


def test_a_missing_right_comes_with_the_role_to_ask_for() -> None:
    found = look(403, body=json.dumps(FORBIDDEN))
    assert found.code == "kubernetes_forbidden"
    assert found.message == "You (ann@example.org) may not create jobs in the namespace team-a."
    role = yaml.safe_load(found.hint.partition(":\n")[2])
    assert role["kind"] == "Role"
    assert role["metadata"]["namespace"] == "team-a"
    assert role["rules"] == [
        {"apiGroups": ["batch"], "resources": ["jobs"],
         "verbs": ["create", "get", "list", "watch", "patch", "delete"]}
    ]  # fmt: skip


def test_a_missing_right_on_logs_asks_for_the_subresource() -> None:
    message = (
        'pods "x" is forbidden: User "ann" cannot get resource "pods/log" in API group "" in the namespace "team-a"'
    )
    found = look(
        403, method="GET", url=f"{HOST}/api/v1/namespaces/team-a/pods/x/log", body=status(403, "Forbidden", message)
    )
    assert "may not get pods/log" in found.message
    assert yaml.safe_load(found.hint.partition(":\n")[2])["rules"][0]["resources"] == ["pods/log"]


def test_a_right_that_is_none_of_ours_asks_for_the_verb_alone() -> None:
    message = (
        'x is forbidden: User "ann" cannot list resource "foos" in API group "example.com" in the namespace "team-a"'
    )
    found = look(403, body=status(403, "Forbidden", message))
    assert yaml.safe_load(found.hint.partition(":\n")[2])["rules"][0]["verbs"] == ["list"]


def test_a_right_on_the_whole_cluster_is_not_asked_for_by_a_role() -> None:
    message = 'nodes is forbidden: User "ann" cannot list resource "nodes" in API group "" at the cluster scope'
    found = look(403, method="GET", url=f"{HOST}/api/v1/nodes", body=status(403, "Forbidden", message))
    assert found.message == "You (ann) may not list nodes in the whole cluster."
    assert "kind: Role" not in found.hint


def test_a_refusal_without_words_is_explained_from_the_address() -> None:
    found = look(403, body="<html><body>403 Forbidden by the proxy</body></html>")
    assert found.message == "You may not create jobs in the namespace team-a."


def test_a_full_quota_is_no_missing_right() -> None:
    message = (
        'jobs.batch "train-abc" is forbidden: exceeded quota: objects, requested: count/jobs.batch=1, used: '
        "count/jobs.batch=50, limited: count/jobs.batch=50"
    )
    found = look(403, body=status(403, "Forbidden", message))
    assert found.code == "kubernetes_refused"
    assert found.message == ("The quota objects allows the namespace 50 jobs; in use: 50 jobs; the run asks for 1 job.")
    assert "Role" not in found.hint


@pytest.mark.parametrize(
    ("code", "message", "retryable"),
    [
        (403, 'admission webhook "a.b" denied the request: no', False),
        (400, 'admission webhook "a.b" denied the request: no', False),
        (500, 'Internal error occurred: failed calling webhook "a.b": failed to call webhook: Post "x": EOF', True),
    ],
)
def test_a_webhook_is_named_whatever_its_status(code: int, message: str, retryable: bool) -> None:
    found = look(code, body=status(code, "Forbidden", message))
    assert (found.code, found.retryable) == ("kubernetes_refused", retryable)
    assert "(a.b)" in found.message


def test_a_namespace_that_is_not_there_is_named() -> None:
    found = look(404, body=status(404, "NotFound", 'namespaces "team-x" not found', name="team-x", kind="namespaces"))
    assert found.code == "kubernetes_no_namespace"
    assert "no namespace team-x" in found.message


def test_an_object_that_is_not_there_is_named() -> None:
    body = status(404, "NotFound", 'jobs.batch "x" not found', name="x", group="batch", kind="jobs")
    found = look(404, method="GET", url=f"{JOBS}/x", body=body)
    assert (found.code, found.message) == ("kubernetes_not_found", "The Job x is not in Kubernetes (any more).")


@pytest.mark.parametrize(
    "body", ["404 page not found\n", status(404, "NotFound", "the server could not find the requested resource")]
)
def test_a_resource_that_this_kubernetes_does_not_have_is_named(body: Any) -> None:
    url = f"{HOST}/apis/kueue.x-k8s.io/v1beta1/namespaces/team-a/workloads"
    found = look(404, method="GET", url=url, body=body)
    assert found.code == "kubernetes_no_resource"
    assert "does not know workloads of kueue.x-k8s.io." in found.message
    assert "Kueue" in found.hint


@pytest.mark.parametrize(
    ("code", "reason", "message", "expected", "retryable"),
    [
        (409, "AlreadyExists", 'jobs.batch "x" already exists', "kubernetes_exists", False),
        (409, "Conflict", 'Operation cannot be fulfilled on jobs.batch "x": the object has been modified; please apply your '
         "changes to the latest version and try again", "kubernetes_conflict", True),
        (410, "Expired", "too old resource version: 1 (2)", "kubernetes_expired", True),
        (413, "RequestEntityTooLarge", "limit is 3145728", "kubernetes_invalid", False),
        (429, "TooManyRequests", "The server has received too many requests and has asked us to try again later",
         "kubernetes_busy", True),
        (500, "InternalError", "etcdserver: request timed out", "kubernetes_unavailable", True),
        (503, "ServiceUnavailable", "apiserver not ready", "kubernetes_unavailable", True),
        (504, "Timeout", "Timeout: request did not complete within requested timeout", "kubernetes_unavailable", True),
        (418, "", "I am a teapot", "kubernetes", False),
    ],
)  # fmt: skip
def test_every_other_answer_has_its_code(code: int, reason: str, message: str, expected: str, retryable: bool) -> None:
    found = look(code, body=status(code, reason, message), url=f"{JOBS}/x", method="PATCH")
    assert (found.code, found.retryable) == (expected, retryable)
    assert found.message


def test_what_is_invalid_is_told_by_its_field() -> None:
    causes = [
        {"reason": "FieldValueInvalid", "field": "spec.template.spec.containers[0].image", "message": "Required value"}
    ]
    found = look(422, body=status(422, "Invalid", 'Job.batch "x" is invalid: …', causes=causes))
    assert found.code == "kubernetes_invalid"
    assert "spec.template.spec.containers[0].image: Required value" in found.message


@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        ("NameResolutionError: Failed to resolve 'k8s.example.org' ([Errno -2] Name or service not known)",
         "kubernetes_dns", True),
        ("socket.gaierror: [Errno 8] nodename nor servname provided, or not known", "kubernetes_dns", True),
        ("[Errno -3] Temporary failure in name resolution", "kubernetes_dns", True),
        ("SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local issuer "
         "certificate (_ssl.c:1006)", "kubernetes_tls", False),
        ("SSLError: [SSL: SSLV3_ALERT_CERTIFICATE_EXPIRED] sslv3 alert certificate expired (_ssl.c:2580)",
         "kubernetes_login", False),
        ("SSLError: [SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required", "kubernetes_login", False),
        ("SSLError: [SSL: WRONG_VERSION_NUMBER] wrong version number", "kubernetes_tls", False),
        ("ProxyError('Unable to connect to proxy', OSError('Tunnel connection failed: 403 Forbidden'))", "kubernetes_proxy",
         False),
        ("ConfigException: exec: process returned 1. login expired", "kubernetes_login", False),
        ("NewConnectionError: [Errno 111] Connection refused", "kubernetes_unreachable", True),
        ("ConnectTimeoutError: Connection to k8s.example.org timed out. (connect timeout=5)", "kubernetes_unreachable", True),
        ("", "kubernetes_unreachable", True),
    ],
)  # fmt: skip
def test_why_there_was_no_answer_is_told_with_the_host(error: str, code: str, retryable: bool) -> None:
    found = look(None, error=error)
    assert (found.code, found.retryable) == (code, retryable)
    assert "k8s.example.org:6443" in found.message
    assert found.hint


def test_an_unknown_trouble_of_the_connection_passes_through() -> None:
    assert "the moon" in look(None, error="the moon").message


def test_credentials_in_the_address_are_not_shown() -> None:
    url = "https://ann:hunter2@k8s.example.org/api/v1/pods?token=hunter2"
    for code in (None, 401, 403, 404, 409, 422, 500):
        found = look(code, method="GET", url=url)
        assert "hunter2" not in f"{found.message}{found.hint}"


@given(
    code=st.none() | st.integers(400, 599),
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    url=st.text(max_size=60) | st.just(JOBS),
    body=st.none() | st.text(max_size=200) | st.binary(max_size=200)
    | st.dictionaries(st.sampled_from(["message", "reason", "details", "code"]), st.text(max_size=50) | st.none()).filter(
        lambda found: not isinstance(found.get("details"), str)
    ),
)  # fmt: skip
def test_whatever_comes_back_there_is_a_sentence_and_a_code(code: int | None, method: str, url: str, body: Any) -> None:
    found = explain_api_error(code, method=method, url=url, body=body, error="x")
    assert found.message.strip()
    assert found.code.startswith("kubernetes")
