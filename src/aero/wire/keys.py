"""Key pairs and certificates: who a party is, and whom it accepts.

Each party has an Ed25519 key, a self-signed certificate, and a copy of the other party's certificate. There is no
authority: a party accepts exactly the one certificate it holds a copy of (it is *pinned*), under TLS 1.3 only. Names in
the certificates are for people and are not checked; the expiry date is.

    DIR/server/key.pem    the server's private key, mode 0600: never leaves this machine
    DIR/server/cert.pem   the server's certificate
    DIR/server/peer.pem   the client's certificate: the only one the server accepts
    DIR/client/...        the same for the client
"""

from __future__ import annotations

import datetime
import os
import ssl
import stat
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aero.files.atomic import replacing
from aero.files.reading import foreign, present, read_bytes

ROLES = ("server", "client")
DEFAULT_DAYS = 365
MAX_FILE_BYTES = 1 << 16
_TRIES, _PAUSE = 5, 0.05  # to read keys that are being replaced


class KeyFileError(ValueError):
    """A key or certificate is missing, unreadable, expired or does not fit; the message names the remedy."""


@dataclass(frozen=True)
class Certificate:
    """A certificate as a person would check it."""

    path: Path
    role: str
    fingerprint: str
    """SHA-256 of the certificate, in hexadecimal."""
    expires: datetime.datetime
    """In UTC."""

    def __post_init__(self) -> None:
        if self.expires.tzinfo is None:
            raise ValueError("an expiry date needs a time zone; use UTC")


def make_keys(
    folder: str | Path, *, roles: tuple[str, ...] = ROLES, days: int = DEFAULT_DAYS, force: bool = False
) -> tuple[Certificate, ...]:
    """Make a key pair and a certificate for each of `roles` under `folder`, and pin each to the other if both are made.

    Raises FileExistsError rather than overwrite keys, unless `force`."""
    if not roles or set(roles) - set(ROLES):
        raise ValueError(f"roles are {' and '.join(ROLES)}, not {roles}")
    if not 1 <= days <= 3650:
        raise ValueError(f"{days} days of validity; give 1 to 3650")
    folder = Path(folder)
    targets = [folder / role / name for role in roles for name in ("key.pem", "cert.pem")]
    if len(roles) == 2:
        targets += [folder / role / "peer.pem" for role in roles]
    existing = [str(path) for path in targets if present(path)]
    if existing and not force:
        raise FileExistsError(f"{existing[0]} exists; give another folder, or --force to replace the keys")

    pairs = {role: _key_pair(role, days) for role in roles}
    made = []
    with ExitStack() as all_written:  # nothing is replaced before everything new is on the disk
        for role in roles:
            files = dict(pairs[role])
            if len(roles) == 2:
                files["peer.pem"] = pairs[_other(role)]["cert.pem"]
            home = folder / role
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, data in files.items():
                path = all_written.enter_context(replacing(home / name))
                _write(path, data, mode=0o600 if name == "key.pem" else 0o644)
            made.append(_describe(x509.load_pem_x509_certificate(files["cert.pem"]), home / "cert.pem", role))
    return tuple(made)


def _key_pair(role: str, days: int) -> dict[str, bytes]:
    """A new key and its certificate, as the files of their names."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "key.pem": private,
        "cert.pem": _self_signed(key, role, days).public_bytes(serialization.Encoding.PEM),
    }


@dataclass(frozen=True)
class Identity:
    """One party's folder of keys, checked: its own key and certificate, and the pinned certificate of its peer.

    Raises `KeyFileError`, naming the remedy, if a file is missing, malformed, expired, or readable by others."""

    folder: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        private = _load_key(self.key_path)
        own = load_certificate(self.certificate_path)
        load_certificate(self.peer_path)
        if own.public_key() != private.public_key():
            raise KeyFileError(f"{self.certificate_path} does not fit {self.key_path}; make both with `aero keys`")

    @property
    def key_path(self) -> Path:
        return self.folder / "key.pem"

    @property
    def certificate_path(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def peer_path(self) -> Path:
        return self.folder / "peer.pem"

    def tls_context(self, *, server_side: bool) -> tuple[ssl.SSLContext, bytes]:
        """TLS 1.3 only, with our certificate shown and the peer's required; and the peer's (DER), which has to be the
        pinned one byte for byte.

        The files are read anew, so that keys that were replaced hold for the next connection. While they are being
        replaced they may not fit each other: they are read again for a moment before that is an error."""
        for _ in range(_TRIES - 1):
            try:
                return self._tls_context(server_side=server_side)
            except KeyFileError:
                time.sleep(_PAUSE)
        return self._tls_context(server_side=server_side)

    def _tls_context(self, *, server_side: bool) -> tuple[ssl.SSLContext, bytes]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # The certificate itself is pinned; a name would add nothing.
        context.verify_mode = ssl.CERT_REQUIRED
        if server_side:
            context.num_tickets = 0  # Sessions are never resumed: each one authenticates anew.
        pinned = load_certificate(self.peer_path).public_bytes(serialization.Encoding.DER)
        try:
            context.load_cert_chain(self.certificate_path, self.key_path)
            context.load_verify_locations(cadata=pinned)
        except OSError as error:  # what was read before has changed, or OpenSSL reads it otherwise
            why = getattr(error, "reason", None) or error.strerror
            raise KeyFileError(f"the keys in {self.folder} cannot be used ({why}); make new ones") from None
        return context, pinned


def load_certificate(path: Path) -> x509.Certificate:
    """The certificate at `path`, if it is valid today. Raises `KeyFileError`."""
    data = _read(path)
    try:
        with foreign(str(path)):
            certificate = x509.load_pem_x509_certificate(data)
            key, first, last = (
                certificate.public_key(),
                certificate.not_valid_before_utc,
                certificate.not_valid_after_utc,
            )
    except ValueError:
        raise KeyFileError(f"{path} is not a certificate in PEM form; make one with `aero keys`") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(f"{path} is not a certificate of an Ed25519 key; make one with `aero keys`")
    now = datetime.datetime.now(datetime.UTC)
    if now > last:
        remedy = "renew with `aero keys --force`"
        if path.name == "peer.pem":
            remedy = "the other party renews its keys, and you copy its new cert.pem there"
        raise KeyFileError(f"{path} expired on {last:%Y-%m-%d}; {remedy}")
    if now < first:
        raise KeyFileError(f"{path} is valid only from {first:%Y-%m-%d} on; check this machine's clock")
    return certificate


def _load_key(path: Path) -> Ed25519PrivateKey:
    data = _read(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise KeyFileError(f"{path} is a private key that others can read; run `chmod 600 {path}`")
    try:
        with foreign(str(path)):
            key = serialization.load_pem_private_key(data, password=None)
    except ValueError:
        raise KeyFileError(f"{path} is not a private key (PEM, no password); make one with `aero keys`") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path} is not an Ed25519 key; make one with `aero keys`")
    return key


def _read(path: Path) -> bytes:
    if path.name == "peer.pem":
        remedy = "copy the other party's cert.pem there"
    else:
        remedy = f"make it with `aero keys {path.parent.parent}`"
    try:
        return read_bytes(path, limit=MAX_FILE_BYTES)
    except FileNotFoundError:
        raise KeyFileError(f"{path} is missing; {remedy}") from None
    except ValueError as error:
        raise KeyFileError(str(error)) from None


def _self_signed(key: Ed25519PrivateKey, role: str, days: int) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"aero {role}")])
    usage = ExtendedKeyUsageOID.SERVER_AUTH if role == "server" else ExtendedKeyUsageOID.CLIENT_AUTH
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # The other machine's clock may be behind.
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .sign(key, None)
    )


def _describe(certificate: x509.Certificate, path: Path, role: str) -> Certificate:
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return Certificate(path, role, fingerprint, certificate.not_valid_after_utc)


def _other(role: str) -> str:
    return ROLES[1 - ROLES.index(role)]


def _write(path: Path, data: bytes, *, mode: int) -> None:
    """Write a new file; it never exists with a wider mode than `mode`."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
