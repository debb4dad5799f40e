"""TCP and TLS: who is let in, and that every way to fail is an error of its own on both sides."""

import contextlib
import select
import shutil
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aero.wire import (
    AddressError,
    Channel,
    PeerAbsentError,
    PeerBusyError,
    PeerSilentError,
    PeerVanishedError,
    ProtocolError,
    RefusedByPeerError,
    UntrustedPeerError,
    VersionError,
    WireError,
    tcp,
)
from aero.wire.certificates import KeyFileError
from aero.wire.clients import trust
from aero.wire.keys import Identity, make_keys
from aero.wire.network import LAN, WAN
from aero.wire.tcp import Door, InsecurePlaintext, Listener, Refusal, _explain, connect

INSECURE = InsecurePlaintext()
GREETING = struct.Struct("<4sB3xdd")
Both = Callable[[Callable[[], Any], Callable[[], Any]], tuple[Any, Any]]


@pytest.fixture
def listener(server_identity: Identity) -> Iterator[Listener]:
    with Listener("127.0.0.1", 0, server_identity, setup_timeout=5) as listener:
        yield listener


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """Keys that neither side of `keys_folder` knows."""
    make_keys(tmp_path / "strangers")
    return tmp_path / "strangers"


def raw_client(port: int, context: ssl.SSLContext | None, said: bytes = b"") -> str:
    """A client of our own making: what it read, or the reason for which its connection ended."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
            talk = context.wrap_socket(sock) if context else sock
            with talk:
                if said:
                    talk.sendall(said)
                return f"read {talk.recv(24)!r}"
    except ssl.SSLError as error:
        return str(error.reason)
    except ConnectionError as error:
        return type(error).__name__


def client_context(certificate: Path | None, server: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(server)
    if certificate:
        context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


# Who is let in


def test_trusted_parties_talk_under_tls_1_3(listener: Listener, client_identity: Identity, both: Both) -> None:
    server, client = both(lambda: listener.accept(20), lambda: connect("127.0.0.1", listener.port, client_identity))
    with server, client:
        assert isinstance(client, Channel)
        assert client._link._socket.version() == "TLSv1.3"
        assert server._link._socket.session_reused is False
        client.send(np.arange(3, dtype=np.uint64))
        assert server.recv(3).tolist() == [0, 1, 2]
        assert client.traffic.rounds == 1, "setting up is not counted"


def test_nothing_readable_is_on_the_wire(
    server_identity: Identity, client_identity: Identity, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the parties sits a relay that reads along."""
    overheard = bytearray()

    def relay(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # The parties hang up as they like.
            while data := source.recv(1 << 16):
                overheard.extend(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    with Listener("127.0.0.1", 0, server_identity) as listener, socket.create_server(("127.0.0.1", 0)) as middle:

        def run_relay() -> None:
            inner, _ = middle.accept()
            outer = socket.create_connection(("127.0.0.1", listener.port))
            threads = [threading.Thread(target=relay, args=ends) for ends in ((inner, outer), (outer, inner))]
            with inner, outer:
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

        between = threading.Thread(target=run_relay, daemon=True)
        between.start()
        port = middle.getsockname()[1]
        server, client = both(lambda: listener.accept(20), lambda: connect("127.0.0.1", port, client_identity))
        with server, client:
            client.send(b"attack at dawn" * 10)
            assert server.recv(140, np.uint8).tobytes() == b"attack at dawn" * 10
        between.join()
    assert len(overheard) > 1000
    assert b"attack" not in overheard
    assert b"AERO" not in overheard


def test_a_client_with_another_certificate_is_refused(
    listener: Listener, strangers: Path, keys_folder: Path, both: Both
) -> None:
    (strangers / "client" / "peer.pem").write_bytes((keys_folder / "server" / "cert.pem").read_bytes())
    server, client = both(
        lambda: listener.accept(20), lambda: connect("127.0.0.1", listener.port, Identity(strangers / "client"))
    )
    assert isinstance(server, UntrustedPeerError) and "not trusted" in str(server)
    assert isinstance(client, RefusedByPeerError) and "give it a copy of cert.pem" in str(client)


def test_a_server_with_another_certificate_is_refused(
    strangers: Path, keys_folder: Path, client_identity: Identity, both: Both
) -> None:
    trust(strangers / "server", keys_folder / "client" / "cert.pem", "client", force=True)
    with Listener("127.0.0.1", 0, Identity(strangers / "server")) as listener:
        server, client = both(lambda: listener.accept(20), lambda: connect("127.0.0.1", listener.port, client_identity))
    assert isinstance(client, UntrustedPeerError) and "not trusted" in str(client)
    assert isinstance(server, RefusedByPeerError)


def test_a_certificate_signed_by_the_pinned_one_is_refused(
    listener: Listener, keys_folder: Path, tmp_path: Path, both: Both
) -> None:
    """The pinned certificate is the only one accepted: it is no authority for others."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pinned = x509.load_pem_x509_certificate((keys_folder / "client" / "cert.pem").read_bytes())
    signer = serialization.load_pem_private_key((keys_folder / "client" / "key.pem").read_bytes(), None)
    assert isinstance(signer, Ed25519PrivateKey)
    key = Ed25519PrivateKey.generate()
    now = datetime.datetime.now(datetime.UTC)
    child = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "child")]))
        .issuer_name(pinned.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .sign(signer, None)
    )
    home = tmp_path / "child"
    home.mkdir()
    encoding = serialization.Encoding.PEM
    (home / "cert.pem").write_bytes(child.public_bytes(encoding))
    (home / "key.pem").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = client_context(home, keys_folder / "server" / "cert.pem")
    server, client = both(lambda: listener.accept(20), lambda: raw_client(listener.port, context))
    assert isinstance(server, UntrustedPeerError)
    assert "read b'AERO" not in client


def test_a_client_without_certificate_is_refused(listener: Listener, keys_folder: Path, both: Both) -> None:
    context = client_context(None, keys_folder / "server" / "cert.pem")
    server, client = both(lambda: listener.accept(20), lambda: raw_client(listener.port, context))
    assert isinstance(server, UntrustedPeerError) and "presented no certificate" in str(server)
    assert client == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


def test_tls_1_2_is_refused(listener: Listener, keys_folder: Path, both: Both) -> None:
    context = client_context(keys_folder / "client", keys_folder / "server" / "cert.pem")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server, client = both(lambda: listener.accept(20), lambda: raw_client(listener.port, context))
    assert isinstance(server, UntrustedPeerError) and "no TLS 1.3" in str(server)
    assert client == "TLSV1_ALERT_PROTOCOL_VERSION"


def test_the_listener_survives_bad_clients(
    listener: Listener, keys_folder: Path, client_identity: Identity, both: Both
) -> None:
    for said in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", bytes(500)):
        server, _ = both(lambda: listener.accept(20), lambda said=said: raw_client(listener.port, None, said))
        assert isinstance(server, WireError)
    server, client = both(lambda: listener.accept(20), lambda: connect("127.0.0.1", listener.port, client_identity))
    with server, client:
        client.send(b"hello")
        assert server.recv(5, np.uint8).tobytes() == b"hello"


@pytest.mark.parametrize("tls_on", ["server", "client"])
def test_tls_on_one_side_only_fails_on_both(
    tls_on: str, server_identity: Identity, client_identity: Identity, both: Both
) -> None:
    secured = tls_on == "server"
    with Listener("127.0.0.1", 0, server_identity if secured else INSECURE, setup_timeout=1) as listener:
        server, client = both(
            lambda: listener.accept(20),
            lambda: connect("127.0.0.1", listener.port, INSECURE if secured else client_identity, setup_timeout=1),
        )
    for error in (server, client):
        assert isinstance(error, WireError)
        assert "TLS" in str(error)


def test_plaintext_warns(caplog: pytest.LogCaptureFixture) -> None:
    with Listener("127.0.0.1", 0, INSECURE):
        assert "WITHOUT encryption" in caplog.text


# Setting up


def test_nobody_listens(client_identity: Identity) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(PeerAbsentError, match=f"nobody listens at 127.0.0.1:{port}.*start the server"):
        connect("127.0.0.1", port, client_identity)


def test_addresses_that_are_none(client_identity: Identity, server_identity: Identity) -> None:
    with pytest.raises(AddressError, match="65535"):
        connect("127.0.0.1", 70_000, client_identity)
    with pytest.raises(PeerAbsentError, match="name"):
        connect("x" * 300, 1, client_identity)
    with pytest.raises(AddressError):
        Listener("127.0.0.1", 70_000, server_identity)
    with pytest.raises(AddressError, match=r"cannot listen|not an address"):
        Listener("192.0.2.1", 0, server_identity)


def test_a_port_in_use(listener: Listener, server_identity: Identity) -> None:
    with pytest.raises(AddressError, match=f"127.0.0.1:{listener.port} is in use"):
        Listener("127.0.0.1", listener.port, server_identity)


def test_nobody_comes(listener: Listener) -> None:
    with pytest.raises(PeerAbsentError, match="no client came within"):
        listener.accept(timeout=0.05)
    listener.close()
    with pytest.raises(AddressError, match="closed"):
        listener.accept()


def test_a_server_that_accepts_and_says_nothing(client_identity: Identity) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        busy = r"accepted the connection but did not answer within 0\.3 s: it may be serving another client"
        with pytest.raises(PeerSilentError, match=f"{busy}, or be no AERO server; try again") as silent:
            connect("127.0.0.1", port, client_identity, setup_timeout=0.3)
        assert "TLS" not in str(silent.value)
        with pytest.raises(PeerSilentError, match=f"{busy}, expect TLS"):
            connect("127.0.0.1", port, INSECURE, setup_timeout=0.3)


def test_a_server_that_is_busy_is_not_blamed_on_tls(
    server_identity: Identity, client_identity: Identity, both: Both
) -> None:
    """The listener has accepted one client and serves it; the system connects the next, whom nobody answers."""
    with Listener("127.0.0.1", 0, server_identity) as listener:
        server, client = both(lambda: listener.accept(20), lambda: connect("127.0.0.1", listener.port, client_identity))
        with server, client, pytest.raises(PeerSilentError, match="it may be serving another client") as silent:
            connect("127.0.0.1", listener.port, client_identity, setup_timeout=0.3)
        assert "TLS" not in str(silent.value)


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", bytes(99)]
)
def test_another_server_at_the_address(said: bytes, client_identity: Identity, both: Both) -> None:
    def answer(other: socket.socket) -> None:
        with other.accept()[0] as sock:
            sock.sendall(said)
            with contextlib.suppress(OSError):
                while sock.recv(1 << 12):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        _, error = both(lambda: answer(other), lambda: connect("127.0.0.1", port, client_identity))
        assert isinstance(error, ProtocolError) and "does not speak TLS: it is no AERO party" in str(error)
        _, error = both(lambda: answer(other), lambda: connect("127.0.0.1", port, INSECURE))
        assert isinstance(error, ProtocolError) and "is not an AERO party" in str(error)


class FromOpenSsl(ssl.SSLError):
    def __init__(self, reason: str) -> None:
        self.reason = reason  # type: ignore[misc]


@pytest.mark.parametrize(
    ("reason", "kind", "words"),
    [
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", RefusedByPeerError, "certificate has expired"),
        ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", RefusedByPeerError, "for the other role"),
        ("TLSV1_ALERT_UNKNOWN_CA", RefusedByPeerError, "give it a copy of cert.pem"),
        ("SSLV3_ALERT_CERTIFICATE_UNKNOWN", RefusedByPeerError, "give it a copy of cert.pem"),
        ("TLSV1_ALERT_PROTOCOL_VERSION", UntrustedPeerError, "no TLS 1.3"),
        ("TLSV1_ALERT_INTERNAL_ERROR", ProtocolError, "broke off the TLS handshake (tlsv1 alert internal error)"),
        ("WRONG_VERSION_NUMBER", ProtocolError, "does not speak TLS"),
        ("BAD_SIGNATURE", ProtocolError, "failed (bad signature)"),
    ],
)
def test_what_openssl_says_in_words(reason: str, kind: type, words: str) -> None:
    error = _explain(FromOpenSsl(reason), "h:1", None)
    assert type(error) is kind and words in str(error)


@pytest.mark.parametrize(
    ("code", "words"), [(9, "not valid yet"), (10, "has expired"), (26, "other role"), (18, "it is not the pinned one")]
)
def test_what_is_wrong_with_a_certificate_in_words(code: int, words: str) -> None:
    found = ssl.SSLCertVerificationError()
    found.verify_code, found.verify_message = code, "as OpenSSL says"
    error = _explain(found, "h:1", None)
    assert isinstance(error, UntrustedPeerError) and words in str(error)


def test_the_keys_of_the_other_role(
    listener: Listener, server_identity: Identity, keys_folder: Path, tmp_path: Path, both: Both
) -> None:
    """Whoever gives the server's folder to a client is told so; a certificate for servers lets no client in."""
    with pytest.raises(KeyFileError, match=r"cert\.pem was not made for a client"):
        connect("127.0.0.1", listener.port, server_identity)
    shutil.copytree(keys_folder / "server", tmp_path / "server")
    (tmp_path / "server" / "clients" / "server.pem").write_bytes((keys_folder / "server" / "cert.pem").read_bytes())
    context = client_context(keys_folder / "server", keys_folder / "server" / "cert.pem")
    with Listener("127.0.0.1", 0, Identity(tmp_path / "server")) as listener:
        server, client = both(lambda: listener.accept(20), lambda: raw_client(listener.port, context))
    assert isinstance(server, UntrustedPeerError) and "other role" in str(server)
    assert "read b'AERO" not in client


def test_a_client_that_connects_and_says_nothing(server_identity: Identity) -> None:
    with (
        Listener("127.0.0.1", 0, server_identity, setup_timeout=0.3) as listener,
        socket.create_connection(("127.0.0.1", listener.port)),
        pytest.raises(PeerSilentError, match="TLS handshake"),
    ):
        listener.accept(20)


def test_a_server_that_hangs_up_at_once(client_identity: Identity, both: Both) -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:
        port = rude.getsockname()[1]
        for security in (client_identity, INSECURE):
            _, error = both(
                lambda: rude.accept()[0].close(), lambda security=security: connect("127.0.0.1", port, security)
            )
            assert isinstance(error, PeerVanishedError) and "closed the connection" in str(error)


@pytest.mark.parametrize(
    ("greeting", "kind", "words"),
    [
        (GREETING.pack(b"HTTP", 1, float("inf"), 0.0), ProtocolError, "not an AERO party"),
        (GREETING.pack(b"AERO", 9, float("inf"), 0.0), VersionError, "wire version 9"),
        (GREETING.pack(b"AERO", 2, 1e6, 0.0), ProtocolError, "another network"),
        (GREETING.pack(b"AERO", 2, float("nan"), 0.0), ProtocolError, "another network"),
    ],
)
def test_wrong_greetings_are_refused(greeting: bytes, kind: type, words: str, both: Both) -> None:
    with Listener("127.0.0.1", 0, INSECURE) as listener:
        server, _ = both(lambda: listener.accept(20), lambda: raw_client(listener.port, None, greeting))
    assert isinstance(server, kind) and words in str(server)


# Whether there is a place


def test_who_waits_hears_its_place_and_answers(listener: Listener, client_identity: Identity, both: Both) -> None:
    def admit(door: Door) -> Refusal | None:
        for place in (2, 1):
            door.wait(place)
        poll = select.poll()
        poll.register(door, select.POLLIN)
        assert poll.poll(20_000)
        door.listen()
        return None

    places: list[int] = []
    server, client = both(
        lambda: listener.welcome(listener.arrival(20), admit),
        lambda: connect("127.0.0.1", listener.port, client_identity, patience=20, on_place=places.append),
    )
    with server, client:
        assert places == [2, 1]
        client.send(b"in")
        assert server.recv(2, np.uint8).tobytes() == b"in"
        assert client.traffic.bytes_sent == 28 + 6 + 2, "what comes before the first frame is not counted"


@pytest.mark.parametrize(("again", "kind"), [(True, PeerBusyError), (False, RefusedByPeerError)])
def test_a_client_is_told_why_it_does_not_come_in(
    again: bool, kind: type, listener: Listener, client_identity: Identity, both: Both
) -> None:
    reason = "busy: 8 sessions, 3 waiting; \x1b[31mtry again" + "!" * 300
    server, client = both(
        lambda: listener.welcome(listener.arrival(20), lambda door: Refusal(reason, again)),
        lambda: connect("127.0.0.1", listener.port, client_identity),
    )
    assert type(client) is kind and "busy: 8 sessions, 3 waiting; \ufffd[31mtry again!" in str(client)
    assert len(str(client)) < 300 and isinstance(server, PeerBusyError)


def test_a_client_without_patience_goes_at_once(listener: Listener, client_identity: Identity, both: Both) -> None:
    def admit(door: Door) -> Refusal | None:
        door.wait(7)
        poll = select.poll()
        poll.register(door, select.POLLIN)
        while poll.poll(20_000):
            door.listen()
        return None

    server, client = both(
        lambda: listener.welcome(listener.arrival(20), admit),
        lambda: connect("127.0.0.1", listener.port, client_identity),
    )
    assert isinstance(client, PeerBusyError) and "place 7 in its queue" in str(client)
    assert isinstance(server, PeerVanishedError)


@pytest.mark.parametrize("insecure", [True, False])
def test_a_client_that_waits_and_is_silent(
    insecure: bool, server_identity: Identity, keys_folder: Path, both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "DEAD", 0.2)

    def admit(door: Door) -> Refusal | None:
        door.wait(1)
        while True:
            door.listen()

    context = None if insecure else client_context(keys_folder / "client", keys_folder / "server" / "cert.pem")
    greeting = GREETING.pack(b"AERO", 2, float("inf"), 0.0)

    def silent() -> None:
        sock = socket.create_connection(("127.0.0.1", listener.port), timeout=20)
        with context.wrap_socket(sock) if context else sock as talk:
            talk.sendall(greeting)
            while talk.recv(24):
                pass

    with Listener("127.0.0.1", 0, INSECURE if insecure else server_identity) as listener:
        server, _ = both(lambda: listener.welcome(listener.arrival(20), admit), silent)
    assert isinstance(server, PeerSilentError) and "waited for a place, and was silent" in str(server)


@pytest.mark.parametrize(
    "word", [b"\x00\x01\x00\x00\x00", b"\x01\x00\x00\x00\x00", b"\x02\x00\x00\xc9\x00", b"\x04\x00\x00\x00\x00"]
)
def test_words_that_are_none(word: bytes, both: Both) -> None:
    def answer(other: socket.socket) -> None:
        with other.accept()[0] as sock:
            sock.sendall(GREETING.pack(b"AERO", 2, float("inf"), 0.0) + word)
            with contextlib.suppress(OSError):
                while sock.recv(1 << 12):
                    pass

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        _, error = both(lambda: answer(other), lambda: connect("127.0.0.1", port, INSECURE, patience=20))
    assert isinstance(error, ProtocolError) and "neither to come in, nor to wait, nor to go" in str(error)


def test_both_sides_must_emulate_the_same_network(both: Both) -> None:
    with Listener("127.0.0.1", 0, INSECURE, network=WAN) as listener:
        errors = both(lambda: listener.accept(20), lambda: connect("127.0.0.1", listener.port, INSECURE, network=LAN))
    for error in errors:
        assert isinstance(error, ProtocolError) and "same --network" in str(error)


def test_ipv6(server_identity: Identity, client_identity: Identity, both: Both) -> None:
    try:
        listener = Listener("::1", 0, server_identity)
    except AddressError:
        pytest.skip("this machine has no IPv6")
    with listener:
        server, client = both(lambda: listener.accept(20), lambda: connect("::1", listener.port, client_identity))
    with server, client:
        client.send(b"6")
        assert server.recv(1, np.uint8).tobytes() == b"6"


# In mid-run


@pytest.fixture(params=["tls", "plaintext"])
def pair(
    request: pytest.FixtureRequest, server_identity: Identity, client_identity: Identity, both: Both
) -> Iterator[tuple[Channel, Channel]]:
    secured = request.param == "tls"
    with Listener("127.0.0.1", 0, server_identity if secured else INSECURE, timeout=0.5) as listener:
        server, client = both(
            lambda: listener.accept(20),
            lambda: connect("127.0.0.1", listener.port, client_identity if secured else INSECURE, timeout=0.5),
        )
    with server, client:
        yield server, client


def kill(channel: Channel, *, reset: bool) -> None:
    """What the kernel does when a process dies: no goodbye, and with `reset` not even an orderly end."""
    sock = channel._link._socket
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.socket.close(sock)


def test_what_has_arrived_is_known_without_reading_it(pair: tuple[Channel, Channel]) -> None:
    ours, theirs = pair
    assert not ours.arrived
    theirs.send(np.arange(3, dtype=np.uint64), np.arange(5, dtype=np.uint64))
    pause = threading.Event()
    while not ours.arrived:
        pause.wait(0.001)
    ours.recv_many((3, np.uint64), (5, np.uint64))
    assert not ours.arrived
    ours.close()
    assert ours.arrived


@pytest.mark.parametrize("reset", [False, True])
def test_a_peer_that_dies_is_noticed_when_receiving(pair: tuple[Channel, Channel], reset: bool) -> None:
    ours, theirs = pair
    kill(theirs, reset=reset)
    with pytest.raises(PeerVanishedError, match=r"without a goodbye|broke"):
        ours.recv(1)


@pytest.mark.parametrize("reset", [False, True])
def test_a_peer_that_dies_is_noticed_when_sending(pair: tuple[Channel, Channel], reset: bool) -> None:
    ours, theirs = pair
    kill(theirs, reset=reset)
    with pytest.raises(PeerVanishedError):
        for _ in range(1000):
            ours.send(bytes(1 << 16))


def test_a_peer_that_takes_nothing_is_noticed_when_sending(pair: tuple[Channel, Channel]) -> None:
    ours, _ = pair
    pause = threading.Event()
    with pytest.raises(PeerSilentError, match=r"took nothing for 0\.5 s"):
        for _ in range(5000):
            ours.send(bytes(1 << 16))
            pause.wait(0.001)


@pytest.mark.parametrize("beats", [False, True])
def test_who_gives_no_sign_of_life_is_gone_long_before_the_timeout(
    monkeypatch: pytest.MonkeyPatch, beats: bool, both: Both
) -> None:
    """And who gives them, as while it computes, has the whole timeout."""
    monkeypatch.setattr(tcp, "BEAT", 0.02 if beats else None)
    monkeypatch.setattr(tcp, "DEAD", 0.5)
    with Listener("127.0.0.1", 0, INSECURE, timeout=600) as listener:
        server, client = both(
            lambda: listener.accept(20), lambda: connect("127.0.0.1", listener.port, INSECURE, timeout=600)
        )
    with server, client:
        if not beats:
            with pytest.raises(PeerSilentError, match=r"for 0\.5 s, not even a sign of life"):
                server.recv(1)
            return
        answering = threading.Timer(2.0, client.send, (bytes(1),))  # four times as long
        answering.start()
        assert server.recv(1, "u1").tolist() == [0]


def test_who_always_has_something_to_say_has_no_more_time_than_others() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"more")
        with pytest.raises(PeerSilentError, match="late"):
            tcp._wait(ours, select.POLLIN, time.monotonic(), "late")


def test_corrupted_ciphertext_is_refused(server_identity: Identity, client_identity: Identity, both: Both) -> None:
    with Listener("127.0.0.1", 0, server_identity) as listener:
        server, client = both(lambda: listener.accept(20), lambda: connect("127.0.0.1", listener.port, client_identity))
    with server, client:
        socket.socket.send(client._link._socket, b"\x17\x03\x03\x00\x20" + bytes(32))  # A record under no key.
        with pytest.raises(PeerVanishedError, match="BAD_RECORD_MAC"):
            server.recv(1)
