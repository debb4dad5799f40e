"""Who may come in to a server: the certificates in its folder of clients, or those that an authority has signed.

    clients/NAME.pem       the certificate of a client, which the log and the limits call NAME
    clients/NAME.revoked   NAME may not come in, whatever else says so

Whoever connects is held against the folder, byte for byte: a certificate in it is no authority for others. With an
authority (`aero serve --client-ca`), who comes in has a certificate for clients that the authority signed, and its name
is the common name in it. The files are read anew for each connection. One that is half written, or anything else, keeps
out its own client and nobody else.
"""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from aero.files.atomic import replacing
from aero.files.reading import foreign, present
from aero.wire.certificates import (
    CLIENT,
    PEM,
    KeyFileError,
    Peer,
    check_name,
    common_name,
    der,
    fingerprint,
    load_certificate,
    read,
    role_of,
    usages,
)
from aero.wire.peer_text import one_line

FOLDER = "clients"
MAX_CLIENTS = 1000
REVOKED = "revoked"
TRIES, PAUSE = 5, 0.05  # to read files that are being replaced


@dataclass(frozen=True)
class Entry:
    """A name in the folder of clients. certificate: DER, and peer: who it is, where it can be read. problem: why it
    does not come in, or nothing."""

    name: str
    path: Path
    certificate: bytes = b""
    peer: Peer | None = None
    problem: str = ""


@dataclass(frozen=True)
class Pinned:
    """Those whose certificates are held, byte for byte."""

    peers: dict[bytes, Peer] = field(default_factory=dict)
    """By certificate (DER)."""

    def peer_of(self, certificate: bytes) -> Peer:
        """Who presents this certificate (DER). ValueError with the reason where nobody may."""
        try:
            return self.peers[certificate]
        except KeyError:
            raise ValueError("it is none that is held here, byte for byte") from None


@dataclass(frozen=True)
class Signed:
    """Those whom an authority has signed, as TLS has checked already, but for the revoked."""

    home: Path

    def peer_of(self, certificate: bytes) -> Peer:
        """As `Pinned.peer_of`."""
        with foreign("it"):
            parsed = x509.load_der_x509_certificate(certificate)
            name, found = common_name(parsed), usages(parsed)
        if ExtendedKeyUsageOID.CLIENT_AUTH not in found:
            raise ValueError("it does not say that it is for clients (extended key usage)")
        if is_revoked(self.home, name):
            raise ValueError(f"{name} was revoked")
        return Peer.of(name, parsed)


def entries(home: Path) -> list[Entry]:
    """Of a server's key folder, what is in its folder of clients, by name. KeyFileError where that cannot be read."""
    folder = home / FOLDER
    try:
        names = sorted(os.listdir(folder)) if present(folder) else []
    except OSError as error:
        raise KeyFileError(f"{folder} cannot be read: {error.strerror}") from None
    names = [name for name in names if not name.startswith(".") and name.endswith((".pem", ".revoked"))]
    if len(names) > MAX_CLIENTS:
        raise KeyFileError(f"{folder} has more than {MAX_CLIENTS} files; name an authority with --client-ca instead")
    found: dict[str, Entry] = {}
    for file in names:
        path = folder / file
        name = path.stem
        if path.suffix == ".revoked":  # after NAME.pem, in order
            found[name] = Entry(name, path, problem=REVOKED)
            continue
        try:
            check_name(name)
            certificate = load_certificate(path, dated=False)
            found[name] = Entry(name, path, der(certificate), Peer.of(name, certificate))
        except ValueError as error:
            found[name] = Entry(name, path, problem=one_line(str(error)))
    holders: dict[bytes, list[str]] = {}
    for entry in found.values():
        if not entry.problem:
            holders.setdefault(entry.certificate, []).append(entry.name)
    for several in holders.values():
        if len(several) > 1:  # or whose would its sessions be?
            why = f"{' and '.join(several)} have one certificate; keep one of them"
            found |= {name: replace(found[name], problem=why) for name in several}
    return [found[name] for name in sorted(found)]


def pinned(home: Path) -> Pinned:
    """Those of the folder who may come in; whether their certificates have expired is TLS's to say."""
    return Pinned({e.certificate: e.peer for e in entries(home) if e.peer is not None and not e.problem})


def why_not(home: Path, peer: Peer, *, signed: bool) -> str:
    """Why a client that came in may not go on, or nothing. signed: it is an authority's."""
    if datetime.datetime.now(datetime.UTC) > peer.expires:
        return f"the certificate of {peer.name} has expired"
    for _ in range(TRIES):
        if is_revoked(home, peer.name):
            break
        try:
            path = home / FOLDER / f"{peer.name}.pem"
            if signed or fingerprint(der(load_certificate(path))) == peer.fingerprint:
                return ""
        except KeyFileError:
            pass  # removed, or just being replaced
        time.sleep(PAUSE)
    return f"{peer.name} was revoked"


def is_revoked(home: Path, name: str) -> bool:
    return present(home / FOLDER / f"{name}.revoked")


def trust(home: Path, source: Path, name: str | None = None, *, force: bool = False) -> Entry:
    """Let in the client whose certificate is at `source`, under `name`, or else under the common name in it.

    Raises KeyFileError for what is no client's certificate, ValueError for a name that is none or, without `force`, in
    use, and for a certificate that is held under another name."""
    certificate = load_certificate(source)
    if role_of(certificate) != CLIENT:
        raise KeyFileError(f"{source} is a server's certificate; a client trusts it, in its own folder of keys")
    if name is None:
        try:
            name = common_name(certificate)
        except ValueError as error:
            raise ValueError(f"{source}: {error}; give --name NAME") from None
    path, data = home / FOLDER / f"{check_name(name)}.pem", der(certificate)
    for entry in entries(home):
        if entry.name != name and entry.certificate == data:
            raise ValueError(f"{entry.path} is this certificate already; revoke {entry.name} first")
        if entry.name != name and entry.name.casefold() == name.casefold():
            raise ValueError(f"{name} differs from {entry.name} in capital letters alone; choose another name")
        if entry.name == name and entry.problem != REVOKED and entry.certificate != data and not force:
            raise ValueError(f"{entry.path} is another certificate; give another --name, or --force to replace it")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.is_symlink() or (present(path) and not path.is_file() and not path.is_dir()):
        path.unlink()  # what is written is not to go elsewhere
    with replacing(path) as temporary:
        temporary.write_bytes(certificate.public_bytes(PEM))
    path.with_suffix(".revoked").unlink(missing_ok=True)
    return Entry(name, path, data, Peer.of(name, certificate))


def revoke(home: Path, name: str) -> bool:
    """Let a client in no longer; False where its certificate is not here, and only an authority may know it.

    Its sessions end before their next step. What was its certificate stays in clients/NAME.revoked."""
    path = home / FOLDER / f"{check_name(name)}.pem"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.replace(path, path.with_suffix(".revoked"))
        return True
    except FileNotFoundError:
        path.with_suffix(".revoked").touch(mode=0o644)
        return False


def read_authority(path: Path) -> str:
    """The certificates of an authority, in PEM. KeyFileError where there is none, or one that may sign no others."""
    pem = read(path)
    try:
        with foreign(str(path)):
            found = x509.load_pem_x509_certificates(pem)
            may_sign = [
                certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is True
                for certificate in found
            ]
    except ValueError:
        raise KeyFileError(f"{path} is not a certificate of an authority in PEM form") from None
    if not all(may_sign):
        raise KeyFileError(f"{path} holds a certificate that is no authority's (its basic constraints say CA:FALSE)")
    return "".join(certificate.public_bytes(PEM).decode("ascii") for certificate in found)
