"""Certificates of the parts, and kubeconfigs that use them. Knows who may be whom, and starts nothing."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from typing import TYPE_CHECKING

from .cache import ClusterError
from .places import API_PORT, API_SERVICE_ADDRESS, CLUSTER_DOMAIN, NODE_ADDRESS, NODE_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from .places import Place

_DAYS = "30"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")

# File name: organisation (a group of Kubernetes) and common name (its user).
_USERS = {
    "admin": ("system:masters", "admin"),
    "kube-controller-manager": ("", "system:kube-controller-manager"),
    "kube-scheduler": ("", "system:kube-scheduler"),
    "kube-proxy": ("", "system:kube-proxy"),
    "kubelet": ("system:nodes", f"system:node:{NODE_NAME}"),
    "coredns": ("", "system:coredns"),
    "apiserver-to-kubelet": ("system:masters", "kube-apiserver-kubelet-client"),
}
_API_NAMES = (
    *(f"DNS:kubernetes{suffix}" for suffix in ("", ".default", ".default.svc", f".default.svc.{CLUSTER_DOMAIN}")),
    "DNS:localhost", "IP:127.0.0.1", f"IP:{NODE_ADDRESS}", f"IP:{API_SERVICE_ADDRESS}",
)  # fmt: skip


def issue_all(place: Place) -> None:
    """Make an authority, every part's certificates, the key that signs tokens, and a kubeconfig for each user."""
    place.pki.mkdir(mode=0o700)
    # Without a file of ours, what openssl puts into a certificate depends on the distribution.
    (place.pki / "openssl.cnf").write_text("[req]\ndistinguished_name = name\n[name]\n")
    _openssl(
        place, "req", "-x509", *_KEY, "-keyout", "ca.key", "-out", "ca.crt", "-days", _DAYS, "-subj", "/CN=test-cluster",
        "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-addext", "subjectKeyIdentifier=hash",
    )  # fmt: skip
    _issue(place, "apiserver", "", "kube-apiserver", names=_API_NAMES)
    _issue(place, "kubelet-server", "system:nodes", NODE_NAME, names=(f"DNS:{NODE_NAME}", f"IP:{NODE_ADDRESS}"))
    for user, (group, common_name) in _USERS.items():
        _issue(place, user, group, common_name)
        credentials = {
            "client-certificate-data": _encoded(place.pki / f"{user}.crt"),
            "client-key-data": _encoded(place.pki / f"{user}.key"),
        }
        write_kubeconfig(place.kubeconfig(user), place.pki / "ca.crt", credentials)
    _openssl(place, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "tokens.key")
    _openssl(place, "pkey", "-in", "tokens.key", "-pubout", "-out", "tokens.pub")


def write_kubeconfig(path: Path, authority: Path, credentials: dict[str, str]) -> None:
    """Write a kubeconfig for the node's API server that depends on no other file; readable by its owner only."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "test",
                "cluster": {
                    "server": f"https://{NODE_ADDRESS}:{API_PORT}",
                    "certificate-authority-data": _encoded(authority),
                },
            }
        ],
        "users": [{"name": "test", "user": credentials}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
        "current-context": "test",
    }
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(config, file, indent=1)


def _issue(place: Place, file: str, group: str, common_name: str, names: tuple[str, ...] = ()) -> None:
    subject = (f"/O={group}" if group else "") + f"/CN={common_name}"
    uses = ["-addext", f"extendedKeyUsage={'serverAuth' if names else 'clientAuth'}"]
    if names:
        uses += ["-addext", f"subjectAltName={','.join(names)}"]
    _openssl(
        place, "req", "-x509", *_KEY, "-CA", "ca.crt", "-CAkey", "ca.key", "-keyout", f"{file}.key", "-out", f"{file}.crt",
        "-days", _DAYS, "-subj", subject, "-addext", "basicConstraints=critical,CA:FALSE", *uses,
    )  # fmt: skip


def _openssl(place: Place, *arguments: str) -> None:
    done = subprocess.run(
        ["openssl", *arguments], cwd=place.pki, capture_output=True, text=True, check=False,
        env={**os.environ, "OPENSSL_CONF": str(place.pki / "openssl.cnf")},
    )  # fmt: skip
    if done.returncode != 0:
        raise ClusterError(f"`openssl {' '.join(arguments)}` failed (OpenSSL 3 is needed): {done.stderr.strip()}")


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
