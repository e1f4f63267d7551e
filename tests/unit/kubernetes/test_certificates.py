"""The certificate of a run: the pods trust each other by it, and nobody else."""

from __future__ import annotations

import socket
import ssl
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509

from jupyter_mlops.kubernetes.certificates import Certificates, certificate_names, issue_certificates

NAME = "train-churn-0f9a3c5e7b21"


def _context(purpose: ssl.Purpose, mine: Certificates, directory: Path, *, trusts: str | None = None) -> ssl.SSLContext:
    certificate, key = directory / "tls.crt", directory / "tls.key"
    certificate.write_text(mine.certificate)
    key.write_text(mine.key)
    context = ssl.create_default_context(purpose, cadata=trusts or mine.ca)
    # Python 3.13's default, which older ones have to be told.
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_cert_chain(certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _meet(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> bytes:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    with server.wrap_socket(connection, server_side=True) as secured:
                        secured.sendall(b"yes")
                except (ssl.SSLError, OSError):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with (
                socket.create_connection(listener.getsockname(), timeout=60) as plain,
                client.wrap_socket(plain, server_hostname=host) as secured,
            ):
                return secured.recv(16)
        finally:
            thread.join(60)


def test_pods_of_a_run_meet_under_each_name_that_they_have(tmp_path: Path) -> None:
    issued = issue_certificates(NAME, "team-a")
    server = _context(ssl.Purpose.CLIENT_AUTH, issued, tmp_path)
    client = _context(ssl.Purpose.SERVER_AUTH, issued, tmp_path)
    hosts = (f"{NAME}-0.{NAME}", f"{NAME}-12.{NAME}.team-a.svc.cluster.local", f"{NAME}-1.{NAME}.team-a.svc")
    for host in (*hosts, "localhost", "127.0.0.1"):
        assert _meet(server, client, host) == b"yes"


def test_another_runs_pod_is_let_in_by_neither_side(tmp_path: Path) -> None:
    issued, foreign = issue_certificates(NAME), issue_certificates(NAME)
    (tmp_path / "foreign").mkdir()
    server = _context(ssl.Purpose.CLIENT_AUTH, issued, tmp_path)
    stranger = _context(ssl.Purpose.SERVER_AUTH, foreign, tmp_path / "foreign", trusts=issued.ca)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        assert _meet(server, stranger, "localhost") == b"yes"
    deceived = _context(ssl.Purpose.SERVER_AUTH, foreign, tmp_path / "foreign")
    with pytest.raises(ssl.SSLCertVerificationError):
        _meet(server, deceived, "localhost")


def test_it_is_valid_from_an_hour_ago_for_a_year() -> None:
    now = datetime(2026, 11, 24, 10, tzinfo=timezone.utc)
    found = x509.load_pem_x509_certificate(issue_certificates(NAME, now=now).certificate.encode())
    assert found.not_valid_before_utc == now - timedelta(hours=1)
    assert found.not_valid_after_utc == now - timedelta(hours=1) + timedelta(days=365)


def test_the_authority_signs_certificates_and_is_no_certificate_of_a_pod() -> None:
    issued = issue_certificates(NAME)
    ca = x509.load_pem_x509_certificate(issued.ca.encode())
    leaf = x509.load_pem_x509_certificate(issued.certificate.encode())
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ca.public_key() != leaf.public_key()
    leaf.verify_directly_issued_by(ca)


def test_the_key_is_in_no_representation_of_it() -> None:
    issued = issue_certificates(NAME)
    assert "PRIVATE" not in repr(issued)


def test_the_longest_name_of_a_run_fits() -> None:
    assert issue_certificates("x" * 52, "y" * 63).certificate
    assert certificate_names("a") == ["localhost", "a-0.a"]
