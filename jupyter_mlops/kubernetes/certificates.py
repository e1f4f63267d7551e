"""The certificate of one run: an authority that is forgotten at once, and the one certificate that all its pods show.

Who reaches a Dask scheduler can run code as its owner, so the pods ask each other for it (mutual TLS). Knows no
Kubernetes beyond the names that its pods have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from typing import Any

VALIDITY = timedelta(days=365)
"""Longer than a run waits in a queue and lasts; the key is gone with the Job."""
_CLOCKS_DIFFER = timedelta(hours=1)


@dataclass(frozen=True)
class Certificates:
    """What every pod of a run has; in PEM.

    Attributes:
        ca: Certificate of the authority; its key exists no more.
        certificate: Signed by it.
        key: Of the certificate.
    """

    ca: str
    certificate: str
    key: str = field(repr=False)


def certificate_names(name: str, namespace: str | None = None) -> list[str]:
    """The host names of a run's pods: the head's NAME-0.NAME, and all of them with the namespace.

    Args:
        name: Of the Job and the Service.
        namespace: Of the run, if it is known.
    """
    # A wildcard stands for one label before two or more: NAME-1.NAME would have to be listed, as would a thousand more.
    found = ["localhost", f"{name}-0.{name}"]
    if namespace:
        found += [f"*.{name}.{namespace}.svc", f"*.{name}.{namespace}.svc.cluster.local"]
    return found


def issue_certificates(name: str, namespace: str | None = None, *, now: datetime | None = None) -> Certificates:
    """A new authority and a certificate of it for the pods of a run.

    Args:
        name: Of the run's Job and Service.
        namespace: See `certificate_names`.
        now: When it begins to be valid; default: the clock's, less an hour, because the nodes' clocks differ.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    begin = (now or datetime.now(timezone.utc)) - _CLOCKS_DIFFER
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name[:52]} authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])

    def builder(holder: x509.Name, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .issuer_name(issuer)
            .subject_name(holder)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + VALIDITY)
            # Python 3.13 insists on both identifiers (RFC 5280).
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )

    ca = (
        builder(issuer, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(x509, sign_certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    hosts = [x509.DNSName(host) for host in certificate_names(name, namespace)]
    certificate = (
        builder(subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(x509, sign_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName([*hosts, x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    return Certificates(
        ca=ca.public_bytes(pem).decode("ascii"),
        certificate=certificate.public_bytes(pem).decode("ascii"),
        key=key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode("ascii"),
    )  # fmt: skip


def _usage(x509: Any, *, sign_certificates: bool) -> Any:
    return x509.KeyUsage(
        digital_signature=not sign_certificates, key_cert_sign=sign_certificates, crl_sign=sign_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
