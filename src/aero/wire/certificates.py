"""Certificates: read from files with care, described as a person would check them, and the names of clients."""

from __future__ import annotations

import datetime
import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aero.files.reading import foreign, read_bytes

log = logging.getLogger(__name__)

SERVER, CLIENT = ROLES = ("server", "client")
MAX_FILE_BYTES = 1 << 16
PEM = serialization.Encoding.PEM
WARNING_DAYS = 30
"""How long before a certificate expires that is said."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)  # a file name everywhere, and harmless in a log
_warned: dict[str, datetime.date] = {}


class KeyFileError(ValueError):
    """A key or certificate is missing, unreadable, expired or does not fit; the message names the remedy."""


@dataclass(frozen=True)
class Peer:
    """Who is at the other end of a connection: a client by the name under which the server knows it, or the server."""

    name: str
    fingerprint: str
    """SHA-256 of the certificate, in hexadecimal."""
    expires: datetime.datetime
    """In UTC."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.expires.tzinfo is None:
            raise ValueError("an expiry date needs a time zone; use UTC")

    @classmethod
    def of(cls, name: str, certificate: x509.Certificate) -> Peer:
        return cls(name, fingerprint(der(certificate)), certificate.not_valid_after_utc)


def check_name(name: str) -> str:
    """A client's name. ValueError for what could not be a file's name on every system, or would disturb a log."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name[:80]!r} is no name for a client; use 1 to 64 letters, digits, dots, dashes and underscores, of "
            "which the first is a letter or a digit"
        )
    return name


def load_certificate(path: Path, *, dated: bool = True) -> x509.Certificate:
    """The certificate at `path`, of an Ed25519 key, if it is valid today or not `dated`. Raises `KeyFileError`."""
    certificate = parse_certificate(read(path), str(path))
    if not isinstance(certificate.public_key(), Ed25519PublicKey):
        raise KeyFileError(f"{path} is not a certificate of an Ed25519 key; make one with `aero keys`")
    if dated:
        check_dates(certificate, path)
    return certificate


def parse_certificate(pem: bytes, what: str) -> x509.Certificate:
    """The first certificate in PEM form. `KeyFileError`, which calls it `what`, where it cannot be read in full."""
    try:
        with foreign(what):
            certificate = x509.load_pem_x509_certificate(pem)
            _ = certificate.public_key(), certificate.not_valid_before_utc, certificate.not_valid_after_utc
            _ = usages(certificate), certificate.subject
    except ValueError:
        raise KeyFileError(f"{what} is not a certificate in PEM form; make one with `aero keys`") from None
    return certificate


def check_dates(certificate: x509.Certificate, path: Path) -> None:
    """`KeyFileError` where it is not valid today."""
    now, first, last = _now(), certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now > last:
        remedy = "renew with `aero keys --force`"
        if path.name != "cert.pem":
            remedy = "the other party renews its keys, and you take its new cert.pem in with `aero keys --trust`"
        raise KeyFileError(f"{path} expired on {last:%Y-%m-%d}; {remedy}")
    if now < first:
        raise KeyFileError(f"{path} is valid only from {first:%Y-%m-%d} on; check this machine's clock")


def read(path: Path) -> bytes:
    """The content of a key file. Raises `KeyFileError`."""
    remedy = f"make it with `aero keys {path.parent.parent}`"
    if path.name == "peer.pem":
        remedy = f"take the server's cert.pem in with `aero keys {path.parent.parent} --trust CERT`"
    try:
        return read_bytes(path, limit=MAX_FILE_BYTES)
    except FileNotFoundError:
        raise KeyFileError(f"{path} is missing; {remedy}") from None
    except ValueError as error:
        raise KeyFileError(str(error)) from None


def self_signed(key: Ed25519PrivateKey, role: str, name: str, days: int) -> x509.Certificate:
    """A certificate of a `role` for so many days, that can sign no other."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    usage = ExtendedKeyUsageOID.SERVER_AUTH if role == SERVER else ExtendedKeyUsageOID.CLIENT_AUTH
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_now() - datetime.timedelta(hours=1))  # The other machine's clock may be behind.
        .not_valid_after(_now() + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .sign(key, None)
    )


def usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    """What it says that it is for; nothing where it does not say."""
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return set()


def role_of(certificate: x509.Certificate) -> str:
    """For which role it was made: a server's says so."""
    found, oid = usages(certificate), ExtendedKeyUsageOID
    return SERVER if oid.SERVER_AUTH in found and oid.CLIENT_AUTH not in found else CLIENT


def common_name(certificate: x509.Certificate) -> str:
    """The one common name of its subject, as a client's name. ValueError where it is none."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(names) != 1 or not isinstance(names[0].value, str):
        raise ValueError(f"its subject has {len(names)} common names, not one")
    return check_name(names[0].value)


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def fingerprint(der: bytes) -> str:
    return hashlib.sha256(der).hexdigest()


def warn_of_expiry(whose: str, expires: datetime.datetime, remedy: str) -> None:
    """Warn of a certificate that expires soon, or has: once a day in a process, so a server in each of its sessions."""
    now = _now()
    days = (expires - now).days
    if days >= WARNING_DAYS or _warned.get(whose) == now.date():
        return
    _warned[whose] = now.date()
    when = f"expires on {expires:%Y-%m-%d}, in {days} days" if days >= 0 else f"expired on {expires:%Y-%m-%d}"
    log.warning("%s %s; %s", whose, when, remedy)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
