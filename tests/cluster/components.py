"""The parts of a node as data: command lines, configuration files, and how to see that a part is well. Starts nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .health import accepts, answers
from .places import API_PORT, CLUSTER_DOMAIN, NODE_ADDRESS, NODE_NAME, POD_RANGE, SERVICE_RANGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .places import Place

PAUSE_IMAGE = "localhost/jupyter-mlops-pause:1"
_CNI_PROGRAMS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))


@dataclass(frozen=True)
class Part:
    """One process of the node."""

    name: str
    argv: list[str]
    healthy: Callable[[], bool]
    """Asked from inside the node's network."""


def cni_programs() -> Path | None:
    """Where the network plugins are, or None."""
    return next((path for path in _CNI_PROGRAMS if (path / "ptp").exists()), None)


def parts(place: Place, kubernetes: Path, coredns: Path) -> dict[str, Part]:
    """Every part of the node by name, in the order in which they are needed.

    Args:
        place: The node.
        kubernetes: The directory with Kubernetes' programs.
        coredns: The program.
    """
    pki = place.pki
    kubeconfig = place.kubeconfig
    listed = [
        Part(
            "etcd",
            ["etcd", f"--data-dir={place.directory}/etcd", "--listen-client-urls=http://127.0.0.1:2379",
             "--advertise-client-urls=http://127.0.0.1:2379", "--listen-peer-urls=http://127.0.0.1:2380",
             "--unsafe-no-fsync"],
            lambda: answers(2379, "/health"),
        ),
        Part(
            "containerd",
            ["containerd", f"--config={place.directory}/containerd.toml"],
            lambda: accepts(place.containerd_socket),
        ),
        Part(
            "kube-apiserver",
            [f"{kubernetes}/kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
             f"--service-cluster-ip-range={SERVICE_RANGE}", f"--advertise-address={NODE_ADDRESS}",
             f"--secure-port={API_PORT}", f"--tls-cert-file={pki}/apiserver.crt",
             f"--tls-private-key-file={pki}/apiserver.key", f"--client-ca-file={pki}/ca.crt",
             f"--service-account-issuer=https://kubernetes.default.svc.{CLUSTER_DOMAIN}",
             f"--service-account-key-file={pki}/tokens.pub", f"--service-account-signing-key-file={pki}/tokens.key",
             "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged",
             f"--kubelet-client-certificate={pki}/apiserver-to-kubelet.crt",
             f"--kubelet-client-key={pki}/apiserver-to-kubelet.key", f"--kubelet-certificate-authority={pki}/ca.crt",
             # A node's name resolves nowhere: logs and exec must go to its address.
             "--kubelet-preferred-address-types=InternalIP"],
            lambda: answers(API_PORT, "/readyz", tls=True),
        ),
        Part(
            "kube-controller-manager",
            [f"{kubernetes}/kube-controller-manager", f"--kubeconfig={kubeconfig('kube-controller-manager')}",
             f"--service-account-private-key-file={pki}/tokens.key", f"--root-ca-file={pki}/ca.crt",
             f"--cluster-signing-cert-file={pki}/ca.crt", f"--cluster-signing-key-file={pki}/ca.key",
             "--use-service-account-credentials", "--leader-elect=false", "--bind-address=127.0.0.1",
             # With the limit meant for a large cluster it takes five seconds to make its controllers' accounts.
             "--kube-api-qps=500", "--kube-api-burst=1000",
             # It makes this directory, by default under /usr.
             f"--flex-volume-plugin-dir={place.directory}/volume-plugins"],
            lambda: answers(10257, "/healthz", tls=True),
        ),
        Part(
            "kube-scheduler",
            [f"{kubernetes}/kube-scheduler", f"--kubeconfig={kubeconfig('kube-scheduler')}", "--leader-elect=false",
             "--bind-address=127.0.0.1"],
            lambda: answers(10259, "/healthz", tls=True),
        ),
        Part(
            "kubelet",
            [f"{kubernetes}/kubelet", f"--config={place.directory}/kubelet.json", f"--kubeconfig={kubeconfig('kubelet')}",
             f"--root-dir={place.directory}/kubelet", f"--node-ip={NODE_ADDRESS}", f"--hostname-override={NODE_NAME}"],
            lambda: answers(10248, "/healthz"),
        ),
        Part(
            "kube-proxy",
            [f"{kubernetes}/kube-proxy", f"--config={place.directory}/kube-proxy.json"],
            lambda: answers(10256, "/healthz"),
        ),
        Part(
            "coredns",
            [str(coredns), f"-conf={place.directory}/Corefile"],
            lambda: answers(8181, "/ready"),
        ),
    ]  # fmt: skip
    return {part.name: part for part in listed}


def write_configuration(place: Place) -> None:
    """Write the configuration files that the command lines name."""
    programs = cni_programs()
    assert programs is not None, "requirements were checked"
    directory = place.directory
    (directory / "cni").mkdir()
    place.containerd_root.mkdir()
    (directory / "cni" / "10-pods.conflist").write_text(json.dumps(_pod_network()))
    (directory / "containerd.toml").write_text(_containerd(place, programs))
    (directory / "kubelet.json").write_text(json.dumps(_kubelet(place)))
    (directory / "kube-proxy.json").write_text(json.dumps(_kube_proxy(place)))
    (directory / "Corefile").write_text(_corefile(place))


def _pod_network() -> dict[str, Any]:
    # `ptp` and not `bridge`: every packet between pods is routed, so services work where the kernel does not hand bridged
    # packets to iptables.
    ranges = [[{"subnet": POD_RANGE}]]
    addresses = {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
    plugins = [
        {"type": "ptp", "ipMasq": False, "ipam": addresses},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}


def _containerd(place: Place, programs: Path) -> str:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    # restrict_oom_score_adj: a machine's root may lack CAP_SYS_RESOURCE; runc then ends with an unrelated message.
    return f"""version = 2
root = {json.dumps(str(place.containerd_root))}
state = "/run/containerd-state"
[grpc]
  address = {json.dumps(str(place.containerd_socket))}
[{cri}]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [{cri}.containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
  [{cri}.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [{cri}.cni]
    bin_dir = {json.dumps(str(programs))}
    conf_dir = {json.dumps(f"{place.directory}/cni")}
"""


def _kubelet(place: Place) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{place.pki}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{place.pki}/kubelet-server.crt",
        "tlsPrivateKeyFile": f"{place.pki}/kubelet-server.key",
        "containerRuntimeEndpoint": f"unix://{place.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": "",
        "podLogsDir": f"{place.directory}/pod-logs",
        "volumePluginDir": f"{place.directory}/volume-plugins",
        # A full disk of the developer's machine is not what the tests are about.
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def _kube_proxy(place: Place) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "clientConnection": {"kubeconfig": str(place.kubeconfig("kube-proxy"))},
        "clusterCIDR": POD_RANGE,
        "hostnameOverride": NODE_NAME,
        # The table of connections is the whole machine's: leave its size alone.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def _corefile(place: Place) -> str:
    return f""".:53 {{
    bind {NODE_ADDRESS}
    errors
    ready 127.0.0.1:8181
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {place.kubeconfig("coredns")} test
        pods insecure
    }}
}}
"""


def dns_rights() -> list[tuple[str, dict[str, Any]]]:
    """What CoreDNS may read, as (path of the API, object)."""
    rules = [
        {"apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    group = "rbac.authorization.k8s.io"
    name = "system:coredns"
    head = {"apiVersion": f"{group}/v1", "metadata": {"name": name}}
    subject = {"kind": "User", "name": name, "apiGroup": group}
    reference = {"kind": "ClusterRole", "name": name, "apiGroup": group}
    return [
        (f"/apis/{group}/v1/clusterroles", {**head, "kind": "ClusterRole", "rules": rules}),
        (
            f"/apis/{group}/v1/clusterrolebindings",
            {**head, "kind": "ClusterRoleBinding", "subjects": [subject], "roleRef": reference},
        ),
    ]
