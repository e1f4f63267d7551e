"""The cluster is a real one: what the runner for Kubernetes builds on is there and behaves."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from kubernetes import client as k

from . import access
from .pods import logs, pod_spec, run_pod, wait_for, wait_for_phase

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from kubernetes.client import ApiClient

    from .context import Context

pytestmark = pytest.mark.cluster

GPU = "nvidia.com/gpu"


@pytest.fixture
def gpus(admin: ApiClient) -> Iterator[int]:
    """A node that says that it has four."""
    access.advertise(admin, GPU, 4)
    yield 4
    access.advertise(admin, GPU, None)


def test_a_node_is_ready(admin: ApiClient) -> None:
    nodes = k.CoreV1Api(admin).list_node().items
    ready = [one.status for node in nodes for one in node.status.conditions if one.type == "Ready"]
    assert ready == ["True"] * len(nodes) != []


def test_a_pod_under_the_restricted_standard_runs_and_its_log_is_read(
    context: Context, admin: ApiClient, namespace: str
) -> None:
    run_pod(admin, namespace, "hello", pod_spec(context.base_image, "sh", "-c", "echo user $(id -u); echo second"))
    wait_for_phase(admin, namespace, "hello", "Succeeded", "Failed")
    assert logs(admin, namespace, "hello") == "user 65534\nsecond\n"


def test_a_pod_that_does_not_meet_the_standard_is_refused(context: Context, admin: ApiClient, namespace: str) -> None:
    spec = pod_spec(context.base_image, "true")
    del spec["securityContext"]
    with pytest.raises(k.ApiException) as refused:
        run_pod(admin, namespace, "careless", spec)
    assert refused.value.status == 403
    assert 'violates PodSecurity "restricted:latest"' in json.loads(refused.value.body)["message"]


def test_a_command_is_run_in_a_pod(context: Context, admin: ApiClient, namespace: str) -> None:
    from kubernetes.stream import stream

    run_pod(admin, namespace, "box", pod_spec(context.base_image, "sleep", "600"))
    wait_for_phase(admin, namespace, "box", "Running")
    answer = stream(
        k.CoreV1Api(admin).connect_get_namespaced_pod_exec, "box", namespace, command=["echo", "inside"],
        stdout=True, stderr=True, stdin=False, tty=False,
    )  # fmt: skip
    assert answer == "inside\n"


def test_cluster_dns_answers_a_pod(context: Context, admin: ApiClient, namespace: str) -> None:
    run_pod(admin, namespace, "dns", pod_spec(context.base_image, "getent", "hosts", "kubernetes.default"))
    wait_for_phase(admin, namespace, "dns", "Succeeded", "Failed")
    service = k.CoreV1Api(admin).read_namespaced_service("kubernetes", "default")
    address, name = logs(admin, namespace, "dns").split()
    assert (address, name) == (service.spec.cluster_ip, "kubernetes.default.svc.cluster.local")


def test_a_service_leads_from_one_pod_to_another(context: Context, admin: ApiClient, namespace: str) -> None:
    serve = pod_spec(context.base_image, "perl", "-MIO::Socket::INET", "-e", _PERL_SERVER)
    core = k.CoreV1Api(admin)
    core.create_namespaced_pod(namespace, {"metadata": {"name": "server", "labels": {"app": "server"}}, "spec": serve})
    core.create_namespaced_service(
        namespace, {"metadata": {"name": "front"}, "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]}}
    )  # fmt: skip
    wait_for_phase(admin, namespace, "server", "Running")
    run_pod(
        admin,
        namespace,
        "client",
        pod_spec(context.base_image, "perl", "-MIO::Socket::INET", "-e", _PERL_CLIENT, "front", "80"),
    )
    wait_for_phase(admin, namespace, "client", "Succeeded", "Failed")
    assert logs(admin, namespace, "client") == "hello from server\n"


def test_a_pod_reaches_a_server_that_a_test_started(own: Context, admin: ApiClient, namespace: str) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"the test answers\n")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer((own.address, 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        spec = pod_spec(
            own.base_image, "perl", "-MIO::Socket::INET", "-e", _PERL_CLIENT, own.address, str(server.server_port)
        )
        run_pod(admin, namespace, "caller", spec)
        wait_for_phase(admin, namespace, "caller", "Succeeded", "Failed")
        server.shutdown()
    assert "the test answers" in logs(admin, namespace, "caller")


def test_workers_of_an_indexed_job_find_its_head_and_end_when_it_succeeds(
    context: Context, admin: ApiClient, namespace: str
) -> None:
    """The one object that a run is: an Indexed Job, a headless Service, a success policy."""
    # The head ends well once both workers could look it up; the workers would stay for ever.
    script = """
        if [ "$JOB_COMPLETION_INDEX" = 0 ]; then
          until getent hosts run-1.run && getent hosts run-2.run; do sleep 0.2; done
          exit 0
        fi
        until getent hosts run-0.run; do sleep 0.2; done
        exec sleep 100000
    """
    template = pod_spec(context.base_image, "sh", "-c", script, subdomain="run")
    spec = {
        "completionMode": "Indexed",
        "completions": 3,
        "parallelism": 3,
        "backoffLimitPerIndex": 0,
        "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
        "template": {"metadata": {"labels": {"run": "run"}}, "spec": template},
    }
    core, batch = k.CoreV1Api(admin), k.BatchV1Api(admin)
    job = batch.create_namespaced_job(namespace, {"metadata": {"name": "run"}, "spec": spec})
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": "run", "uid": job.metadata.uid}
    service = {"clusterIP": "None", "selector": {"run": "run"}, "publishNotReadyAddresses": True}
    core.create_namespaced_service(
        namespace, {"metadata": {"name": "run", "ownerReferences": [owner]}, "spec": service}
    )

    def conditions() -> dict[str, str]:
        found = batch.read_namespaced_job_status("run", namespace).status.conditions or []
        return {one.type: one.reason for one in found if one.status == "True"}

    wait_for("the Job to be complete", lambda: "Complete" in conditions(), conditions)
    assert conditions()["SuccessCriteriaMet"] == "SuccessPolicy"
    assert batch.read_namespaced_job_status("run", namespace).status.completed_indexes == "0"
    wait_for("the workers to end", lambda: not _running(core, namespace))
    # The Service belongs to the Job, and goes with it.
    batch.delete_namespaced_job("run", namespace, propagation_policy="Background")
    wait_for("the Service to go with its Job", lambda: not core.list_namespaced_service(namespace).items)


def test_a_pod_that_asks_for_more_gpus_than_are_free_waits_and_says_so(
    context: Context, admin: ApiClient, namespace: str, gpus: int
) -> None:
    core = k.CoreV1Api(admin)
    run_pod(admin, namespace, "first", pod_spec(context.base_image, "sleep", "100000", limits={GPU: str(gpus - 1)}))
    wait_for_phase(admin, namespace, "first", "Running")
    run_pod(admin, namespace, "second", pod_spec(context.base_image, "true", limits={GPU: "2"}))

    def refusal() -> Any:
        conditions = core.read_namespaced_pod("second", namespace).status.conditions or []
        return next((one for one in conditions if one.type == "PodScheduled" and one.status == "False"), None)

    found = wait_for("the second pod to be refused", refusal)
    assert found.reason == "Unschedulable"
    assert f"Insufficient {GPU}" in found.message
    core.delete_namespaced_pod("first", namespace, grace_period_seconds=0)
    wait_for_phase(admin, namespace, "second", "Succeeded")


def test_a_quota_refuses_gpus_at_creation(context: Context, admin: ApiClient, namespace: str, gpus: int) -> None:
    core = k.CoreV1Api(admin)
    core.create_namespaced_resource_quota(
        namespace, {"metadata": {"name": "gpus"}, "spec": {"hard": {f"requests.{GPU}": "1"}}}
    )
    wait_for("the quota to count", lambda: core.read_namespaced_resource_quota("gpus", namespace).status.used)
    with pytest.raises(k.ApiException) as refused:
        run_pod(admin, namespace, "greedy", pod_spec(context.base_image, "true", limits={GPU: "2"}))
    assert "exceeded quota: gpus" in json.loads(refused.value.body)["message"]


def test_a_user_with_few_rights_is_refused_everything_else(
    context: Context, admin: ApiClient, namespace: str, tmp_path: Path
) -> None:
    rules = [{"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create", "get", "list"]}]
    path = access.write_limited_kubeconfig(context.kubeconfig, tmp_path / "limited", namespace, rules)
    assert path.stat().st_mode & 0o077 == 0
    with access.client(path) as limited:
        assert k.BatchV1Api(limited).list_namespaced_job(namespace).items == []
        core = k.CoreV1Api(limited)
        for refused, what in (
            (lambda: core.list_namespaced_secret(namespace), "secrets"),
            (lambda: core.list_namespaced_pod(namespace), "pods"),
            (core.list_node, "nodes"),
            (lambda: k.BatchV1Api(limited).list_namespaced_job("default"), "jobs"),
            (lambda: k.BatchV1Api(limited).delete_namespaced_job("none", namespace), "jobs"),
        ):
            with pytest.raises(k.ApiException) as error:
                refused()
            assert error.value.status == 403
            assert what in json.loads(error.value.body)["message"]


def test_work_goes_on_while_the_api_server_is_away(own: Context, admin: ApiClient, namespace: str) -> None:
    run_pod(
        admin, namespace, "steady", pod_spec(own.base_image, "sh", "-c", "while :; do date +%s.%N; sleep 0.2; done")
    )
    wait_for_phase(admin, namespace, "steady", "Running")
    core = k.CoreV1Api(admin)
    with own.without("kube-apiserver"), pytest.raises(Exception, match="refused"):
        core.list_namespaced_pod(namespace, _request_timeout=5)
    before = len(logs(admin, namespace, "steady").splitlines())
    wait_for("the pod to print more", lambda: len(logs(admin, namespace, "steady").splitlines()) > before)
    assert core.read_namespaced_pod("steady", namespace).status.container_statuses[0].restart_count == 0


def test_an_api_server_that_hangs_is_noticed_by_the_clients_time_out(own: Context, admin: ApiClient) -> None:
    core = k.CoreV1Api(admin)
    core.list_node()
    with own.frozen("kube-apiserver"), pytest.raises(Exception, match="timed out"):
        core.list_node(_request_timeout=1)
    assert core.list_node().items


def _running(core: k.CoreV1Api, namespace: str) -> list[str]:
    return [pod.metadata.name for pod in core.list_namespaced_pod(namespace).items if pod.status.phase == "Running"]


_PERL_SERVER = """
    my $server = IO::Socket::INET->new(Listen => 5, LocalPort => 8080, ReuseAddr => 1) or die $!;
    while (my $client = $server->accept) { print $client "hello from server\\n"; close $client }
"""
_PERL_CLIENT = """
    my ($host, $port) = @ARGV;
    my $socket;
    for (1 .. 300) {
      last if $socket = IO::Socket::INET->new(PeerAddr => $host, PeerPort => $port, Timeout => 2);
      select undef, undef, undef, 0.2;
    }
    die "no connection\\n" unless $socket;
    print $socket "GET / HTTP/1.0\\r\\n\\r\\n";
    print while <$socket>;
"""
