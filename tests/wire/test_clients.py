"""Who may come in to a server: its folder of clients, an authority, and what attackers or accidents make of both."""

import datetime
import os
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aero.wire import Channel, RefusedByPeerError, UntrustedPeerError, WireError, certificates, clients
from aero.wire.certificates import KeyFileError
from aero.wire.keys import Identity, make_keys, trust_server
from aero.wire.tcp import Listener, connect
from wire.conftest import run_both

PEM = serialization.Encoding.PEM
CLIENTS, SERVERS = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
DAY = datetime.timedelta(days=1)


@pytest.fixture
def server(tmp_path: Path) -> Path:
    """The server's folder of keys, which knows alice and bob."""
    make_keys(tmp_path, roles=("server",))
    for name in ("alice", "bob"):
        clients.trust(tmp_path / "server", client(tmp_path, name) / "cert.pem")
    return tmp_path / "server"


def client(tmp_path: Path, name: str) -> Path:
    """The folder of a new client that trusts the server."""
    make_keys(tmp_path / name, roles=("client",), name=name)
    trust_server(tmp_path / name / "client", tmp_path / "server" / "cert.pem")
    return tmp_path / name / "client"


def meet(server: Path, client: Path, client_ca: Path | None = None) -> tuple[Any, Any]:
    """What both sides of a connection get: a channel or an error."""
    with Listener("127.0.0.1", 0, Identity(server, client_ca)) as listener:
        got = run_both(lambda: listener.accept(20), lambda: connect("127.0.0.1", listener.port, Identity(client)))
    for one in got:
        if isinstance(one, Channel):
            one.close()
    return got


def name_of(server: Path, client: Path, client_ca: Path | None = None) -> str | None:
    """By which the server knows a client; None where it does not let it in, and then the client knows no more."""
    ours, theirs = meet(server, client, client_ca)
    if isinstance(ours, Channel):
        assert ours.peer is not None and isinstance(theirs, Channel) and theirs.peer is not None
        assert theirs.peer.name == "server"
        return ours.peer.name
    assert isinstance(ours, UntrustedPeerError) and isinstance(theirs, WireError), (ours, theirs)
    return None


def test_clients_are_known_by_the_names_of_their_files(server: Path, tmp_path: Path) -> None:
    assert name_of(server, tmp_path / "alice/client") == "alice"
    assert name_of(server, tmp_path / "bob/client") == "bob"
    assert name_of(server, client(tmp_path, "mallory")) is None
    (server / "clients/bob.pem").rename(server / "clients/robert.pem")
    assert name_of(server, tmp_path / "bob/client") == "robert"


def test_a_revoked_client_is_out_and_may_be_let_in_again(server: Path, tmp_path: Path) -> None:
    assert clients.revoke(server, "alice") is True
    ours, theirs = meet(server, tmp_path / "alice/client")
    assert isinstance(ours, UntrustedPeerError) and isinstance(theirs, RefusedByPeerError)
    assert name_of(server, tmp_path / "bob/client") == "bob"
    # A file that is put back by hand, from a backup, say, does not let it in; trusting it anew does.
    (server / "clients/alice.pem").write_bytes((tmp_path / "alice/client/cert.pem").read_bytes())
    assert name_of(server, tmp_path / "alice/client") is None
    clients.trust(server, tmp_path / "alice/client/cert.pem")
    assert name_of(server, tmp_path / "alice/client") == "alice"


def test_a_folder_of_which_nothing_can_be_used_lets_nobody_in(server: Path, tmp_path: Path) -> None:
    for name in ("alice", "bob"):
        clients.revoke(server, name)
    assert name_of(server, tmp_path / "alice/client") is None
    assert any("nobody may come in yet" in line for line in Identity(server).problems())


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


BAD: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(os.urandom(5000)),
    "huge": lambda path: path.write_bytes(b"x" * (1 << 20)),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "a link to itself": _link_to_itself,
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "unreadable DER": lambda path: path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_none_keeps_out_its_own_client_alone(server: Path, tmp_path: Path, kind: str) -> None:
    (server / "clients/alice.pem").unlink()
    BAD[kind](server / "clients/alice.pem")
    assert name_of(server, tmp_path / "bob/client") == "bob"
    assert name_of(server, tmp_path / "alice/client") is None
    (problem,) = Identity(server).problems()
    assert "alice.pem lets nobody in" in problem and len(problem.splitlines()) == 1
    if kind != "a folder":
        clients.trust(server, tmp_path / "alice/client/cert.pem", force=True)
        assert name_of(server, tmp_path / "alice/client") == "alice"


def test_a_half_written_certificate_at_every_length(server: Path) -> None:
    """None is another certificate, and none is in the way of the others."""
    pem = (server / "clients/alice.pem").read_bytes()
    for length in range(0, len(pem), 7):
        (server / "clients/alice.pem").write_bytes(pem[:length])
        held = clients.pinned(server).peers.values()
        assert {peer.name for peer in held} in ({"bob"}, {"alice", "bob"})
        if length < len(pem) - 30:
            assert [peer.name for peer in held] == ["bob"]


def test_one_certificate_under_two_names_lets_nobody_in(server: Path, tmp_path: Path) -> None:
    (server / "clients/alias.pem").symlink_to("alice.pem")
    assert name_of(server, tmp_path / "alice/client") is None
    assert name_of(server, tmp_path / "bob/client") == "bob"
    assert all("alias and alice have one certificate" in line for line in Identity(server).problems())
    with pytest.raises(ValueError, match=r"alias\.pem is this certificate already; revoke alias first"):
        clients.trust(server, tmp_path / "alice/client/cert.pem")
    clients.revoke(server, "alias")
    assert name_of(server, tmp_path / "alice/client") == "alice"


NAMES = [
    "-v",
    "new\nline",
    "\x1b[2J",
    "x" * 65,
    "a b",
    "café",
    "alice\u202e",
    "a;b",
    "*",
    "\x00",
    "",
    "a/b",
    "..",
    "ａlice",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_would_disturb_a_log_or_a_path(server: Path, tmp_path: Path, name: str) -> None:
    source = tmp_path / "alice/client/cert.pem"
    with pytest.raises(ValueError, match="no name for a client"):
        clients.trust(server, source, name)
    with pytest.raises(ValueError, match="no name for a client"):
        clients.revoke(server, name)
    with pytest.raises(ValueError, match="no name for a client"):
        make_keys(tmp_path / "new", roles=("client",), name=name)
    if "/" in name or "\x00" in name or name in ("", ".."):
        return
    (server / "clients/alice.pem").rename(server / "clients" / f"{name}.pem")  # by hand
    assert name_of(server, tmp_path / "alice/client") is None
    (problem,) = Identity(server).problems()
    assert problem.isprintable()
    assert "no name for a client" in problem


def test_hidden_and_other_files_are_not_read(server: Path) -> None:
    for name in (".alice.pem.123.tmp", "README", "alice.pem~", "carol.pem.new"):
        (server / "clients" / name).write_bytes(b"x")
    assert [entry.name for entry in clients.entries(server)] == ["alice", "bob"]
    assert Identity(server).problems() == []


def test_a_folder_with_too_many_is_refused_as_a_whole(server: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "MAX_CLIENTS", 1)
    with pytest.raises(KeyFileError, match="more than 1 files; name an authority"):
        clients.pinned(server)


# Certificates of an attacker's making


def certificate(
    key: Any,
    name: str,
    signer: Any = None,
    issuer: str | None = None,
    *,
    ca: bool = False,
    usages: tuple[x509.ObjectIdentifier, ...] = (CLIENTS,),
    names: tuple[str, ...] | None = None,
    days: int = 1,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, one) for one in (names or (name,))])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]) if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 10 * DAY)
        .not_valid_after(now + days * DAY)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if usages and not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    signer = signer or key
    return builder.sign(signer, None if isinstance(signer, Ed25519PrivateKey) else hashes.SHA256())


def dress(folder: Path, *chain: x509.Certificate, key: Ed25519PrivateKey) -> Path:
    """A client's folder with other keys."""
    (folder / "cert.pem").write_bytes(b"".join(one.public_bytes(PEM) for one in chain))
    (folder / "key.pem").write_bytes(
        key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder


@pytest.mark.parametrize("ca", [False, True])
def test_what_a_trusted_client_signs_is_not_trusted(server: Path, tmp_path: Path, ca: bool) -> None:
    """Neither where its certificate says that it may sign others, as those of other tools do, nor where the new one
    has the same name, nor with the trusted one behind it in the chain."""
    trusted, new = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    leaf = certificate(trusted, "carol", ca=ca)
    (server / "clients/carol.pem").write_bytes(leaf.public_bytes(PEM))
    folder = client(tmp_path, "carol")
    if not ca:
        assert name_of(server, dress(folder, leaf, key=trusted)) == "carol"
    child = certificate(new, "carol", trusted, "carol")
    assert name_of(server, dress(folder, child, leaf, key=new)) is None
    assert name_of(server, dress(folder, child, key=new)) is None
    again = certificate(trusted, "carol", ca=ca)  # the same key and name, not the same bytes
    assert name_of(server, dress(folder, again, key=trusted)) is None
    assert name_of(server, tmp_path / "alice/client") == "alice"


def test_an_expired_client_hears_of_the_date(server: Path, tmp_path: Path) -> None:
    key, folder = Ed25519PrivateKey.generate(), client(tmp_path, "carol")
    leaf = certificate(key, "carol", days=-1)
    (server / "clients/carol.pem").write_bytes(leaf.public_bytes(PEM))
    identity = Identity(dress(folder, certificate(key, "carol"), key=key))
    (folder / "cert.pem").write_bytes(leaf.public_bytes(PEM))
    with pytest.raises(KeyFileError, match="expired on"):  # at home
        Identity(folder)
    with Listener("127.0.0.1", 0, Identity(server)) as listener, pytest.MonkeyPatch.context() as patch:
        patch.setattr(certificates, "check_dates", lambda *_: None)  # as a client with another clock
        ours, theirs = run_both(lambda: listener.accept(20), lambda: connect("127.0.0.1", listener.port, identity))
    assert isinstance(ours, UntrustedPeerError) and "has expired" in str(ours)
    assert isinstance(theirs, RefusedByPeerError) and "has expired" in str(theirs)


# An authority


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, Any]:
    key = ec.generate_private_key(ec.SECP256R1())  # as many have, whatever the clients' keys are
    (tmp_path / "ca.pem").write_bytes(certificate(key, "root", ca=True).public_bytes(PEM))
    return tmp_path / "ca.pem", key


def test_whom_the_authority_signed_comes_in_by_the_common_name(
    server: Path, tmp_path: Path, authority: tuple[Path, Any]
) -> None:
    ca, signer = authority
    key, folder = Ed25519PrivateKey.generate(), client(tmp_path, "carol")
    assert name_of(server, folder, ca) is None  # its own, self-signed
    assert name_of(server, tmp_path / "alice/client", ca) is None  # the folder is not read beside an authority
    signed = dress(folder, certificate(key, "carol", signer, "root"), key=key)
    assert name_of(server, signed, ca) == "carol"
    assert name_of(server, signed) is None
    assert clients.revoke(server, "carol") is False
    assert name_of(server, signed, ca) is None
    renewed = dress(folder, certificate(key, "carol", signer, "root"), key=key)
    assert name_of(server, renewed, ca) is None
    os.unlink(server / "clients/carol.revoked")
    assert name_of(server, renewed, ca) == "carol"


def test_an_authority_below_another(server: Path, tmp_path: Path, authority: tuple[Path, Any]) -> None:
    ca, root = authority
    below, key, folder = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate(), client(tmp_path, "carol")
    between, leaf = certificate(below, "below", root, "root", ca=True), certificate(key, "carol", below, "below")
    assert name_of(server, dress(folder, leaf, key=key), ca) is None  # the chain is not whole
    assert name_of(server, dress(folder, leaf, between, key=key), ca) == "carol"
    (tmp_path / "below.pem").write_bytes(between.public_bytes(PEM))
    assert name_of(server, dress(folder, leaf, key=key), tmp_path / "below.pem") == "carol"
    other = Ed25519PrivateKey.generate()
    assert (
        name_of(server, dress(folder, certificate(other, "dan", root, "root"), key=other), tmp_path / "below.pem")
        is None
    )


@pytest.mark.parametrize("name", ["../alice", "new\nline", "\x1b[2J", "x" * 64 + "y", "a b", "алиса"])
def test_an_authority_that_signs_any_name(server: Path, tmp_path: Path, authority: tuple[Path, Any], name: str) -> None:
    ca, signer = authority
    key, folder = Ed25519PrivateKey.generate(), client(tmp_path, "carol")
    try:
        leaf = certificate(key, name, signer, "root")
    except ValueError:
        pytest.skip("a name of this length is in no certificate")
    ours, _ = meet(server, dress(folder, leaf, key=key), ca)
    assert isinstance(ours, UntrustedPeerError) and str(ours).isprintable()


def test_signed_for_something_else(server: Path, tmp_path: Path, authority: tuple[Path, Any]) -> None:
    ca, signer = authority
    key, folder = Ed25519PrivateKey.generate(), client(tmp_path, "carol")
    both = certificate(key, "carol", signer, "root", usages=(SERVERS, CLIENTS))
    assert name_of(server, dress(folder, both, key=key), ca) == "carol"
    for bad in (
        certificate(key, "carol", signer, "root", usages=()),
        certificate(key, "carol", signer, "root", usages=(ExtendedKeyUsageOID.CODE_SIGNING,)),
        certificate(key, "carol", signer, "root", names=("carol", "alice")),
        certificate(key, "carol", signer, "another"),
        certificate(key, "carol", Ed25519PrivateKey.generate(), "root"),
    ):
        assert name_of(server, dress(folder, bad, key=key), ca) is None


def test_files_that_are_no_authority(server: Path, tmp_path: Path) -> None:
    (tmp_path / "garbage.pem").write_bytes(b"garbage")
    for path, words in (
        (tmp_path / "nowhere.pem", "is missing"),
        (tmp_path / "garbage.pem", "not a certificate of an authority"),
        (server / "cert.pem", "no authority's"),
    ):
        with pytest.raises(KeyFileError, match=words):
            Identity(server, path)


# While a session runs


def test_whether_a_client_may_go_on(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "PAUSE", 0.0)
    identity = Identity(server)
    alice = clients.entries(server)[0].peer
    assert alice is not None and identity.why_not(alice) == ""
    other = client(tmp_path, "other") / "cert.pem"
    clients.trust(server, other, "alice", force=True)  # swapped
    assert identity.why_not(alice) == "alice was revoked"
    clients.trust(server, tmp_path / "alice/client/cert.pem", force=True)
    assert identity.why_not(alice) == ""
    clients.revoke(server, "alice")
    assert identity.why_not(alice) == "alice was revoked"
    bob = clients.entries(server)[1].peer
    assert bob is not None

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.now(tz) + 400 * DAY

    monkeypatch.setattr(clients, "datetime", types.SimpleNamespace(datetime=Later, UTC=datetime.UTC))
    assert identity.why_not(bob) == "the certificate of bob has expired"


def test_a_certificate_that_is_just_being_replaced_ends_no_session(
    server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, path = clients.entries(server)[0].peer, server / "clients/alice.pem"
    pem = path.read_bytes()
    path.write_bytes(pem[:100])
    monkeypatch.setattr(clients.time, "sleep", lambda _: path.write_bytes(pem))
    assert alice is not None and Identity(server).why_not(alice) == ""


# Dates


def test_both_sides_warn_before_a_certificate_expires(
    server: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_warned", {})
    make_keys(tmp_path / "carol", roles=("client",), name="carol", days=29)
    folder = tmp_path / "carol/client"
    trust_server(folder, server / "cert.pem")
    clients.trust(server, folder / "cert.pem")
    for _ in range(2):
        assert name_of(server, folder) == "carol"
    (own,) = [record.getMessage() for record in caplog.records if "expires on" in record.getMessage()]
    assert own.startswith(f"{folder}/cert.pem expires on ") and "in 28 days; renew" in own
    Identity(server).warn_of_expiry(clients.entries(server)[2].peer)
    assert "the certificate of carol expires on" in caplog.records[-1].getMessage()
