"""Key pairs and certificates: who a party is, and whom it accepts.

Each party has an Ed25519 key and a self-signed certificate, and holds copies of the certificates that it accepts: a
client the server's, a server those of its clients (they are *pinned*), under TLS 1.3 only.

    DIR/server/key.pem             the server's private key, mode 0600: never leaves this machine
    DIR/server/cert.pem            the server's certificate
    DIR/server/clients/NAME.pem    the certificate of the client called NAME (`wire/clients.py`)
    DIR/client/key.pem, cert.pem   the same of a client, on its own machine
    DIR/client/peer.pem            the server's certificate: the only one that the client accepts
"""

from __future__ import annotations

import os
import ssl
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aero.files.atomic import replacing
from aero.files.reading import foreign, present
from aero.wire import clients
from aero.wire.certificates import (
    CLIENT,
    PEM,
    ROLES,
    SERVER,
    KeyFileError,
    Peer,
    check_name,
    der,
    load_certificate,
    read,
    role_of,
    self_signed,
    warn_of_expiry,
)
from aero.wire.peer_text import one_line

DEFAULT_DAYS = 365


@dataclass(frozen=True)
class Made:
    """A key pair that was made: for which role, the certificate's file, and whose it is."""

    role: str
    path: Path
    peer: Peer


def make_keys(
    folder: str | Path,
    *,
    roles: tuple[str, ...] = ROLES,
    name: str = CLIENT,
    days: int = DEFAULT_DAYS,
    force: bool = False,
) -> tuple[Made, ...]:
    """Make a key pair and a certificate for each of `roles` under `folder`, and have each accept the other if both are
    made, which is for trials: then one machine has seen both private keys. name: the client's.

    Raises FileExistsError rather than overwrite keys, unless `force`."""
    if not roles or set(roles) - set(ROLES):
        raise ValueError(f"roles are {' and '.join(ROLES)}, not {roles}")
    if not 1 <= days <= 3650:
        raise ValueError(f"{days} days of validity; give 1 to 3650")
    folder, names = Path(folder), {SERVER: SERVER, CLIENT: check_name(name)}
    accepted = {SERVER: f"{clients.FOLDER}/{name}.pem", CLIENT: "peer.pem"}
    targets = [folder / role / file for role in roles for file in ("key.pem", "cert.pem")]
    if len(roles) == 2:
        targets += [folder / role / accepted[role] for role in roles]
    existing = [str(path) for path in targets if present(path)]
    if existing and not force:
        raise FileExistsError(f"{existing[0]} exists; give another folder, or --force to replace the keys")

    pairs = {role: _key_pair(role, names[role], days) for role in roles}
    made = []
    with ExitStack() as all_written:  # nothing is replaced before everything new is on the disk
        for role in roles:
            files = dict(pairs[role])
            certificate = files["cert.pem"]
            if len(roles) == 2:
                files[accepted[role]] = pairs[_other(role)]["cert.pem"]
            home = folder / role
            for file, data in files.items():
                (home / file).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path = all_written.enter_context(replacing(home / file))
                _write(path, data, mode=0o600 if file == "key.pem" else 0o644)
            peer = Peer.of(names[role], x509.load_pem_x509_certificate(certificate))
            made.append(Made(role, home / "cert.pem", peer))
    return tuple(made)


def _key_pair(role: str, name: str, days: int) -> dict[str, bytes]:
    """A new key and its certificate, as the files of their names."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"key.pem": private, "cert.pem": self_signed(key, role, name, days).public_bytes(PEM)}


def trust_server(home: Path, source: Path, *, force: bool = False) -> Peer:
    """Have the client of this key folder accept the server whose certificate is at `source`, and no other.

    Raises KeyFileError for what is no server's certificate, ValueError where another is accepted, unless `force`."""
    certificate, path = load_certificate(source), home / "peer.pem"
    if role_of(certificate) != SERVER:
        raise KeyFileError(f"{source} is a client's certificate; the server trusts it, in its own folder of keys")
    if present(path) and not force and der(load_certificate(path, dated=False)) != der(certificate):
        raise ValueError(f"{path} is another server's certificate; --force replaces it")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(certificate.public_bytes(PEM))
    return Peer.of(SERVER, certificate)


@dataclass(frozen=True)
class Identity:
    """One party's folder of keys, checked: its own key and certificate, and whom it accepts.

    client_ca: of a server, the certificates of an authority in PEM; it accepts those clients that the authority has
    signed, instead of those of its folder (`wire/clients.py`).
    Raises `KeyFileError`, naming the remedy, if a file is missing, malformed, expired, or readable by others."""

    folder: Path
    client_ca: Path | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", Path(self.folder))
        private = _load_key(self.key_path)
        own = load_certificate(self.certificate_path)
        if own.public_key() != private.public_key():
            raise KeyFileError(f"{self.certificate_path} does not fit {self.key_path}; make both with `aero keys`")
        if role_of(own) == CLIENT:
            load_certificate(self.peer_path)
        elif self.client_ca is not None:
            clients.read_authority(self.client_ca)
        elif present(self.peer_path):  # as aero kept it until 0.1
            raise KeyFileError(
                f"{self.peer_path}: a server has a folder of clients now; run `aero keys {self.folder} --trust "
                f"{self.peer_path} --name NAME`, and remove it"
            )

    @property
    def key_path(self) -> Path:
        return self.folder / "key.pem"

    @property
    def certificate_path(self) -> Path:
        return self.folder / "cert.pem"

    @property
    def peer_path(self) -> Path:
        return self.folder / "peer.pem"

    @property
    def accepts(self) -> str:
        """Whose certificates, for messages."""
        if self.client_ca is not None:
            return f"signed by {self.client_ca}"
        folder = self.folder / clients.FOLDER
        return str(self.peer_path) if present(self.peer_path) else f"in {folder}"

    def tls_context(self, *, server_side: bool) -> tuple[ssl.SSLContext, Callable[[bytes], Peer]]:
        """TLS 1.3 only, with our certificate shown and the peer's required; and what then says who presented a
        certificate (DER), byte for byte, or raises ValueError.

        The files are read anew, so that keys that were replaced hold for the next connection. While they are being
        replaced they may not fit each other: they are read again for a moment before that is an error."""
        for _ in range(clients.TRIES - 1):
            try:
                return self._tls_context(server_side=server_side)
            except KeyFileError:
                time.sleep(clients.PAUSE)
        return self._tls_context(server_side=server_side)

    def why_not(self, peer: Peer) -> str:
        """Of a server: why a client that came in may not go on, as after it was revoked; or nothing."""
        return clients.why_not(self.folder, peer, signed=self.client_ca is not None)

    def problems(self) -> list[str]:
        """Of a server: what keeps clients out, a line each."""
        if self.client_ca is not None:
            return []
        found = clients.entries(self.folder)
        bad = [e for e in found if e.problem not in ("", clients.REVOKED)]
        lines = [one_line(f"{e.path} lets nobody in: {e.problem}", 1000) for e in bad]
        return lines if any(not e.problem for e in found) else [*lines, self._nobody]

    @property
    def _nobody(self) -> str:
        return f"nobody may come in yet: take a client's cert.pem in with `aero keys {self.folder} --trust CERT`"

    def warn_of_expiry(self, peer: Peer | None = None) -> None:
        """Warn where our own certificate, or the peer's, expires soon, as `certificates.warn_of_expiry` does."""
        own = load_certificate(self.certificate_path, dated=False)
        warn_of_expiry(str(self.certificate_path), own.not_valid_after_utc, "renew it with `aero keys --force`")
        if peer is not None:
            warn_of_expiry(f"the certificate of {peer.name}", peer.expires, "its owner makes a new one and sends it")

    def _tls_context(self, *, server_side: bool) -> tuple[ssl.SSLContext, Callable[[bytes], Peer]]:
        role, own = SERVER if server_side else CLIENT, self.certificate_path
        if role_of(load_certificate(own)) != role:
            raise KeyFileError(f"{own} was not made for a {role}; use the folder of the {role}'s keys")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # The certificate itself is pinned; a name would add nothing.
        context.verify_mode = ssl.CERT_REQUIRED
        accepted: clients.Pinned | clients.Signed
        if not server_side:
            server = load_certificate(self.peer_path)
            accepted = clients.Pinned({der(server): Peer.of(SERVER, server)})
        elif self.client_ca is not None:
            accepted = clients.Signed(self.folder)
        else:
            accepted = clients.pinned(self.folder)
        if server_side:
            context.num_tickets = 0  # Sessions are never resumed: each one authenticates anew.
        try:
            context.load_cert_chain(self.certificate_path, self.key_path)
            if isinstance(accepted, clients.Pinned):
                if accepted.peers:
                    context.load_verify_locations(cadata=b"".join(accepted.peers))
            else:
                assert self.client_ca is not None
                context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the authority may be another's
                context.load_verify_locations(cadata=clients.read_authority(self.client_ca))
        except OSError as error:  # what was read before has changed, or OpenSSL reads it otherwise
            why = getattr(error, "reason", None) or error.strerror
            raise KeyFileError(f"the keys in {self.folder} cannot be used ({why}); make new ones") from None
        return context, accepted.peer_of


def home_of(folder: Path, role: str) -> Path:
    """Where the keys of a role are: `folder`, where it is one party's own, or the folder of this name in it."""
    return folder if present(folder / "key.pem") else folder / role


def _load_key(path: Path) -> Ed25519PrivateKey:
    data = read(path)
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
