"""Channels over TCP, under TLS 1.3 with both parties authenticated by pinned certificates.

    server:  with Listener("0.0.0.0", 7700, Identity("keys/server")) as listener:
                 channel = listener.accept()
    client:  channel = connect("server.example", 7700, Identity("keys/client"))

Setting up is: TCP, TLS handshake, then a greeting of 24 bytes each way, with the wire version and the emulated network,
then the server's word: come in, wait, or go, with the reason. Under TLS 1.3 a client believes the handshake done before
the server has looked at its certificate, and waiting for the greeting is how it learns that it was refused.

Without TLS only on purpose: pass `InsecurePlaintext()` where an `Identity` belongs.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from types import TracebackType

from aero.wire.certificates import Peer
from aero.wire.channel import Channel
from aero.wire.errors import (
    AddressError,
    PeerAbsentError,
    PeerBusyError,
    PeerSilentError,
    PeerVanishedError,
    ProtocolError,
    RefusedByPeerError,
    UntrustedPeerError,
    VersionError,
    WireError,
)
from aero.wire.frame import MAGIC, MAX_FRAME_BYTES, VERSION
from aero.wire.keys import Identity
from aero.wire.link import ABRUPT_PATIENCE, BEAT, DEAD, DEFAULT_TIMEOUT, Link, Outbox
from aero.wire.network import LOOPBACK, Network, shape
from aero.wire.peer_text import one_line

log = logging.getLogger(__name__)

SETUP_TIMEOUT = 10.0
"""Seconds for TCP, TLS and the greeting together."""

MAX_PLACE = 2**16 - 1
"""The last place in a queue that can be told."""

_GREETING = struct.Struct("<4sB3xdd")  # magic, version, network
_WORD = struct.Struct("<BHH")  # a _Say, the place in the queue or 0, bytes of the reason that follows
_HERE = b"\x01"  # what a client answers to each word that says to wait
_MAX_REASON = 200
_PIECE = 1 << 18
_TLS_RECORD = b"\x16\x03"  # how a TLS handshake begins

# What OpenSSL says of a certificate (X509_V_ERR_...), of the other side's refusal, and of bytes that are no TLS.
_CERTIFICATES = {
    9: "it is not valid yet; compare the clocks of both machines",
    10: "it has expired; make new keys there with `aero keys --force`, and trust its cert.pem here",
    26: "it was made for the other role; see that server and client have the keys of their own role",
}
_REFUSALS = {
    "CERTIFICATE_EXPIRED": "says that this side's certificate has expired; compare the clocks, or make new keys",
    "UNSUPPORTED_CERTIFICATE": "says that this side's certificate is for the other role; use the keys of this role",
    "CERTIFICATE": "does not trust this side's certificate; give it a copy of cert.pem, for `aero keys --trust`",
    "UNKNOWN_CA": "does not trust this side's certificate; give it a copy of cert.pem, for `aero keys --trust`",
}
_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "HTTPS_PROXY_REQUEST",
    "UNKNOWN_PROTOCOL",
    "RECORD_LAYER_FAILURE",
    "PACKET_LENGTH_TOO_LONG",
    "BAD_RECORD_TYPE",
)


@dataclass(frozen=True)
class InsecurePlaintext:
    """In place of an `Identity`: no encryption, no authentication. For experiments on one machine only."""


Security = Identity | InsecurePlaintext


class _Say(IntEnum):
    """What a server says to a client that has greeted it."""

    COME_IN = 0
    WAIT = 1
    BUSY = 2
    REFUSED = 3


def connect(
    host: str,
    port: int,
    security: Security,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    setup_timeout: float = SETUP_TIMEOUT,
    network: Network = LOOPBACK,
    max_frame_bytes: int = MAX_FRAME_BYTES,
    patience: float = 0.0,
    on_place: Callable[[int], None] = lambda _: None,
) -> Channel:
    """A channel to the party that listens at `host`:`port`. `timeout` is the silence in seconds that ends the session.

    patience: seconds to wait for a place in the queue of a busy server. on_place: called meanwhile, every few seconds,
    with the place: 1 is next.
    Raises `PeerAbsentError`, `PeerSilentError`, `UntrustedPeerError`, `RefusedByPeerError`, `ProtocolError`, and
    `PeerBusyError` where there is no place, or none in time."""
    deadline = time.monotonic() + setup_timeout
    where = f"{host}:{port}"
    if not 1 <= port <= 65535:
        raise AddressError(f"port {port} does not exist; give 1 to 65535")
    try:
        sock = socket.create_connection((host, port), timeout=setup_timeout)
    except UnicodeError:
        raise PeerAbsentError(f"{host!r} is not the name of a host; check the address") from None
    except socket.gaierror as error:
        raise PeerAbsentError(
            f"the name {host!r} cannot be looked up ({error.strerror}); check it, and this machine's network"
        ) from None
    except TimeoutError:
        raise PeerAbsentError(
            f"{where} did not answer within {setup_timeout:g} s; check the address, and whether a firewall is between"
        ) from None
    except ConnectionRefusedError as error:
        raise PeerAbsentError(f"nobody listens at {where} ({error.strerror}); start the server first") from None
    except OSError as error:
        raise PeerAbsentError(
            f"{where} cannot be reached ({error.strerror}); check the address, and the network"
        ) from None
    expects = ", expect TLS (give --keys)" if isinstance(security, InsecurePlaintext) else ""
    silence = (
        f"{where} accepted the connection but did not answer within {setup_timeout:g} s: it may be serving another "
        f"client{expects}, or be no AERO server; try again"
    )

    def enter(link: TcpLink, peer: Peer | None) -> None:
        _come_in(link, where, deadline, silence, patience, on_place)

    channel = _set_up(sock, security, where, deadline, silence, timeout, network, max_frame_bytes, enter)
    if isinstance(security, Identity):
        security.warn_of_expiry(channel.peer)
    return channel


@dataclass(frozen=True)
class Refusal:
    """Why a client does not come in; again: whether it may try again soon."""

    reason: str
    again: bool = True


class Door:
    """The connection of a client that has greeted, and does not know yet whether it may come in. For one thread.

    peer: who it is; None without TLS."""

    def __init__(self, link: TcpLink, peer: Peer | None) -> None:
        self._link, self.peer = link, peer
        self._owed = 0
        self._heard = time.monotonic()

    def fileno(self) -> int:
        """For `select`: readable when the client has answered, or gone."""
        return self._link.fileno()

    def wait(self, place: int) -> None:
        """Tell the client its place in the queue, from 1 on; it answers each time, so that it is known to be there."""
        self._link.send([memoryview(_WORD.pack(_Say.WAIT, min(place, MAX_PLACE), 0))])
        self._owed += 1

    def listen(self) -> None:
        """Take what the client has answered so far. Raises PeerVanishedError when it has gone, PeerSilentError when it
        has answered nothing for `DEAD`, ProtocolError when it says anything else."""
        while self._owed and (said := self._link.take(self._owed)):
            self._took(said)
        if not self._owed and self._link.take(1):
            raise ProtocolError("the client spoke before it was asked to come in")
        if self._owed and time.monotonic() > self._heard + DEAD:
            raise PeerSilentError(f"the client waited for a place, and was silent for {DEAD:g} s")

    def open(self) -> None:
        """Ask the client to come in. Raises like `listen` where it is not there any more."""
        self._link.send([memoryview(_WORD.pack(_Say.COME_IN, 0, 0))])
        answers = bytearray(self._owed)
        self._link.receive_into(memoryview(answers), time.monotonic() + DEAD)
        self._took(bytes(answers))

    def shut(self, refusal: Refusal) -> None:
        """Turn the client away, and say why."""
        reason = refusal.reason.encode()[:_MAX_REASON]
        what = _Say.BUSY if refusal.again else _Say.REFUSED
        self._link.send([memoryview(_WORD.pack(what, 0, len(reason)) + reason)])
        self._link.close(abruptly=True)

    def _took(self, said: bytes) -> None:
        if said.strip(_HERE):
            raise ProtocolError("the client answered something else than that it is there")
        self._owed -= len(said)
        self._heard = time.monotonic()


def _let_in(door: Door) -> Refusal | None:
    return None


@dataclass(frozen=True)
class Arrival:
    """A TCP connection from somebody who has not said anything yet."""

    socket: socket.socket
    host: str
    port: int
    since: float
    """On `time.monotonic()`'s clock."""

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"


class Listener:
    """Waits for clients at an address; port 0 picks a free one, see `port`. Raises `AddressError`."""

    def __init__(
        self,
        host: str,
        port: int,
        security: Security,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        setup_timeout: float = SETUP_TIMEOUT,
        network: Network = LOOPBACK,
        max_frame_bytes: int = MAX_FRAME_BYTES,
    ) -> None:
        self._security = security
        self._timeout = timeout
        self._setup_timeout = setup_timeout
        self._network = network
        self._max_frame_bytes = max_frame_bytes
        where = f"{host}:{port}"
        if not 0 <= port <= 65535:
            raise AddressError(f"port {port} does not exist; give 1 to 65535, or 0 for a free one")
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, _, _, _, address = found[0]
            self._socket = socket.create_server(address[:2], family=family)
        except (socket.gaierror, UnicodeError):
            raise AddressError(f"{where} is not an address of this machine; try localhost:7700") from None
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressError(f"{where} is in use; stop the other server, or choose another port") from None
            raise AddressError(f"cannot listen at {where}: {error.strerror}") from None
        if isinstance(security, InsecurePlaintext):
            log.warning("listening at %s WITHOUT encryption or authentication", where)
        else:
            security.warn_of_expiry()
            for problem in security.problems():
                log.warning("%s", problem)

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._socket.getsockname()[1])

    @property
    def setup_timeout(self) -> float:
        """Seconds that a client has for TLS and the greeting."""
        return self._setup_timeout

    def fileno(self) -> int:
        """For `select`: readable when somebody has connected."""
        return self._socket.fileno()

    def accept(self, timeout: float | None = None) -> Channel:
        """Wait for a client, at most `timeout` seconds (None: for ever), and set up a channel with it.

        A client that is not trusted, silent, or no AERO client raises like `connect`; the listener stays usable."""
        return self.welcome(self.arrival(timeout))

    def arrival(self, timeout: float | None = None) -> Arrival:
        """The next TCP connection. PeerAbsentError where none came within `timeout` seconds (None: for ever), or it had
        ended before it could be taken; AddressError where this listener is closed."""
        try:
            self._socket.settimeout(timeout)
            sock, address = self._socket.accept()
        except (TimeoutError, BlockingIOError):
            raise PeerAbsentError(f"no client came within {timeout:g} s") from None
        except OSError as error:
            if self._socket.fileno() < 0:
                raise AddressError(f"the listener is closed: {error.strerror}") from None
            raise PeerAbsentError(f"a connection could not be taken: {error.strerror}") from None
        return Arrival(sock, str(address[0]), int(address[1]), time.monotonic())

    def welcome(self, arrival: Arrival, admit: Callable[[Door], Refusal | None] = _let_in) -> Channel:
        """TLS and the greeting with who has connected.

        admit: called once the client has proved who it is and greeted; says why it is turned away, or None when it may
        come in, and meanwhile tells it its place and listens whether it is still there.
        Raises `PeerBusyError` where the client was turned away; else like `connect`. The connection is closed then."""
        deadline = arrival.since + self._setup_timeout
        wanted = "greet" if isinstance(self._security, InsecurePlaintext) else "finish the TLS handshake"
        silence = f"{arrival.where} connected but did not {wanted} within {self._setup_timeout:g} s"
        limits = self._timeout, self._network, self._max_frame_bytes

        def enter(link: TcpLink, peer: Peer | None) -> None:
            door = Door(link, peer)
            refusal = admit(door)
            if refusal is not None:
                door.shut(refusal)
                raise PeerBusyError(f"{arrival.where} was told: {refusal.reason}")
            door.open()

        return _set_up(arrival.socket, self._security, arrival.where, deadline, silence, *limits, enter, server=True)

    def close(self) -> None:
        """Stop listening; channels that were accepted live on."""
        self._socket.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _set_up(
    sock: socket.socket,
    security: Security,
    where: str,
    deadline: float,
    silence: str,
    timeout: float,
    network: Network,
    max_frame_bytes: int,
    enter: Callable[[TcpLink, Peer | None], None],
    *,
    server: bool = False,
) -> Channel:
    """silence: what to say where the other side has not done its part by `deadline`. enter: what follows the greeting.
    Whatever the other side does, what is raised is a WireError."""
    identity = security if isinstance(security, Identity) else None
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        peer = None
        if identity:
            sock, peer = _handshake(sock, identity, where, deadline, silence, server_side=server)
        link = TcpLink(sock, timeout)
        _greet(link, identity, network, where, deadline, silence)
        enter(link, peer)
        log.info("%s %s (%s)", "accepted" if server else "connected to", where, peer.name if peer else "no TLS")
        link.dead = DEAD
        return Channel(shape(link, network), max_frame_bytes=max_frame_bytes, beat=BEAT, peer=peer)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError) and not isinstance(error, WireError):
            raise _explain(error, where, identity) from None
        raise


def _handshake(
    sock: socket.socket, identity: Identity, where: str, deadline: float, silence: str, *, server_side: bool
) -> tuple[ssl.SSLSocket, Peer]:
    """TLS, and who is at the other end."""
    context, peer_of = identity.tls_context(server_side=server_side)
    tls = context.wrap_socket(sock, server_side=server_side, do_handshake_on_connect=False)
    try:
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                _wait(tls, select.POLLIN, deadline, silence)
            except ssl.SSLWantWriteError:
                _wait(tls, select.POLLOUT, deadline, silence)
        try:
            return tls, peer_of(tls.getpeercert(binary_form=True) or b"")
        except ValueError as error:
            raise UntrustedPeerError(f"the certificate of {where} is not trusted: {error}") from None
    except OSError as error:
        _shut(tls, politely=isinstance(error, ssl.SSLError | UntrustedPeerError))
        tls.close()
        raise error if isinstance(error, WireError) else _explain(error, where, identity) from None


def _greet(
    link: TcpLink, identity: Identity | None, network: Network, where: str, deadline: float, silence: str
) -> None:
    ours = _GREETING.pack(MAGIC, VERSION, network.bits_per_second, network.round_trip_seconds)
    theirs = bytearray(_GREETING.size)
    try:
        link.send([memoryview(ours)])  # Even to a version we refuse, so that both sides can say why.
        link.receive_into(memoryview(theirs), deadline)
    except PeerSilentError:
        raise PeerSilentError(silence) from None
    except PeerVanishedError as error:
        if isinstance(error.__cause__, ssl.SSLError):
            raise _explain(error.__cause__, where, identity) from None
        why = "not trust this side's certificate" if identity else "expect TLS"
        raise PeerVanishedError(
            f"{where} closed the connection before its greeting: it may {why}, be no AERO party, or have failed"
        ) from None
    magic, version, bits_per_second, round_trip_seconds = _GREETING.unpack(theirs)
    if theirs.startswith(_TLS_RECORD) and not identity:
        raise ProtocolError(f"{where} speaks TLS, and this side does not; give both sides keys, or neither")
    if magic != MAGIC:
        raise ProtocolError(f"{where} is not an AERO party: its greeting is another")
    if version != VERSION:
        raise VersionError(f"{where} speaks wire version {version}, this side {VERSION}; use the same release")
    if (bits_per_second, round_trip_seconds) != (network.bits_per_second, network.round_trip_seconds):
        raise ProtocolError(f"{where} emulates another network than {network}; give both sides the same --network")


def _come_in(
    link: TcpLink, where: str, deadline: float, silence: str, patience: float, on_place: Callable[[int], None]
) -> None:
    """Do as the server says, until it says to come in."""
    patient_until = time.monotonic() + patience
    place = 0
    while True:
        word = bytearray(_WORD.size)
        try:
            link.receive_into(memoryview(word), deadline)
        except PeerSilentError:
            if place and deadline == patient_until:
                raise _waiting_in_vain(where, place) from None
            raise PeerSilentError(silence) from None
        say, place, size = _WORD.unpack(word)
        if say == _Say.COME_IN and not place and not size:
            return
        if say in (_Say.BUSY, _Say.REFUSED) and not place and size <= _MAX_REASON:
            text = bytearray(size)
            link.receive_into(memoryview(text), deadline)
            reason = one_line(text.decode(errors="replace"))
            if say == _Say.BUSY:
                raise PeerBusyError(f"{where} is {reason}")
            raise RefusedByPeerError(f"{where} refuses this client: {reason}")
        if say != _Say.WAIT or not place or size:
            raise ProtocolError(f"{where} says neither to come in, nor to wait, nor to go")
        now = time.monotonic()
        if now >= patient_until:
            raise _waiting_in_vain(where, place)
        on_place(place)
        link.send([memoryview(_HERE)])
        deadline, silence = now + DEAD, f"{where} was silent for {DEAD:g} s while this side waited"
        deadline = min(deadline, patient_until)


def _waiting_in_vain(where: str, place: int) -> PeerBusyError:
    return PeerBusyError(f"{where} is busy: place {place} in its queue; try again, or wait longer")


def _explain(error: OSError, where: str, identity: Identity | None) -> WireError:
    """A TLS failure in words: whose refusal it was, and why, as far as that is known."""
    reason = getattr(error, "reason", None) or ""
    words = reason.lower().replace("_", " ")
    if isinstance(error, ssl.SSLCertVerificationError):
        accepted = identity.accepts if identity else "the pinned one"
        what = _CERTIFICATES.get(error.verify_code, f"it is not {accepted} ({error.verify_message})")
        return UntrustedPeerError(f"the certificate of {where} is not trusted: {what}")
    if "PEER_DID_NOT_RETURN_A_CERTIFICATE" in reason:
        return UntrustedPeerError(f"{where} presented no certificate")
    if "PROTOCOL_VERSION" in reason or reason in ("UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW"):
        return UntrustedPeerError(f"{where} offers no TLS 1.3 ({words})")
    if "ALERT" in reason:
        for alert, what in _REFUSALS.items():
            if alert in reason:
                return RefusedByPeerError(f"{where} {what}")
        return ProtocolError(f"{where} broke off the TLS handshake ({words})")
    if reason in _NO_TLS:
        return ProtocolError(f"{where} does not speak TLS: it is no AERO party, or runs with --insecure-plaintext")
    if isinstance(error, ssl.SSLError) and reason and not isinstance(error, ssl.SSLEOFError):
        return ProtocolError(f"the TLS handshake with {where} failed ({words})")
    return PeerVanishedError(f"{where} closed the connection during the TLS handshake; its own log may say why")


def _wait(sock: socket.socket, events: int, deadline: float, complaint: str) -> None:
    """Wait until `sock` may be read or written. Raises `PeerSilentError(complaint)` after `deadline`."""
    left = deadline - time.monotonic()  # a peer that always has something to say has no more time than another
    if left <= 0 or not _ready(sock, events, left):
        raise PeerSilentError(complaint)


def _ready(sock: socket.socket, events: int, seconds: float) -> bool:
    """Whether `sock` may be read or written, at once or within so many seconds."""
    poll = select.poll()
    poll.register(sock, events)
    return bool(poll.poll(seconds * 1000))


class TcpLink(Link):
    """A connected socket, with or without TLS, that one thread writes and another reads.

    The sending thread writes as much as the connection takes at once; a copy of the rest goes to the outbox."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        super().__init__(timeout)
        self.dead = float("inf")
        """Seconds without a byte after which the other side counts as gone, whatever deadline there is."""
        sock.setblocking(False)
        self._socket = sock
        # OpenSSL forbids reading and writing one connection at the same time; nothing blocks while this is held.
        self._lock = threading.Lock()
        self._outbox: Outbox[memoryview] = Outbox(self._write, timeout)
        self._closed = False
        self._hosts = str(sock.getsockname()[0]), str(sock.getpeername()[0])

    @property
    def hosts(self) -> tuple[str, str]:
        return self._hosts

    def fileno(self) -> int:
        return self._socket.fileno()

    def take(self, most: int) -> bytes:
        """What has come, of `most` bytes at most, without waiting. PeerVanishedError where the connection has ended."""
        view = memoryview(bytearray(most))
        count, events = self._attempt(self._socket.recv_into, view, select.POLLIN)
        if not count and not events:
            raise PeerVanishedError("the connection ended without a goodbye: the other side died, or the network")
        return bytes(view[:count])

    def send(self, buffers: Sequence[memoryview]) -> None:
        if sum(len(buffer) for buffer in buffers) <= _PIECE:
            buffers = [memoryview(b"".join(buffers))]  # One small message is one TLS record and one packet.
        for buffer in buffers:
            rest = self._write_now(buffer) if self._outbox.empty else buffer
            if len(rest):
                self._outbox.put(memoryview(bytes(rest)), len(rest))

    def receive_into(self, view: memoryview, deadline: float) -> None:
        while len(view):
            count, events = self._attempt(self._socket.recv_into, view, select.POLLIN)
            if events:
                dead = time.monotonic() + self.dead
                what = f"for {self.dead:g} s, not even a sign of life" if dead < deadline else "within the timeout"
                _wait(self._socket, events, min(dead, deadline), f"the other side sent nothing {what}")
            elif count == 0:
                raise PeerVanishedError("the connection ended without a goodbye: the other side died, or the network")
            view = view[count:]

    @property
    def arrived(self) -> bool:
        with self._lock:
            decrypted = self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0
        return decrypted > 0 or _ready(self._socket, select.POLLIN, 0)

    def close(self, *, abruptly: bool = False) -> None:
        if self._closed:
            return
        self._closed = True
        self._outbox.flush(abruptly=abruptly)
        self._outbox.fail(WireError("this link is closed"))
        _shut(self._socket, politely=abruptly)  # Wakes the outbox's thread, if it still waits to write.
        self._outbox.join()
        self._socket.close()

    def _write_now(self, view: memoryview) -> memoryview:
        """Write what the connection takes without waiting; what it does not take is returned."""
        while len(view):
            count, events = self._attempt(self._socket.send, view[:_PIECE], select.POLLOUT)
            if events:
                break
            view = view[count:]
        return view

    def _write(self, view: memoryview) -> None:
        while len(view := self._write_now(view)):
            complaint = f"the other side took nothing for {self.timeout:g} s"
            _wait(self._socket, select.POLLOUT, time.monotonic() + self.timeout, complaint)

    def _attempt(self, operation: Callable[[memoryview], int], view: memoryview, events: int) -> tuple[int, int]:
        """Bytes moved and 0, or 0 and the poll events to wait for before the next attempt."""
        try:
            with self._lock:
                return operation(view), 0
        except ssl.SSLWantReadError:
            return 0, select.POLLIN
        except ssl.SSLWantWriteError:
            return 0, select.POLLOUT
        except BlockingIOError:
            return 0, events
        except OSError as error:
            why = getattr(error, "reason", None) or error.strerror or type(error).__name__
            raise PeerVanishedError(f"the connection to the other side broke ({why})") from error


def _shut(sock: socket.socket, *, politely: bool) -> None:
    """End a connection. Politely: read what still comes for a moment, because closing with unread bytes may destroy
    our last words before the other side has read them."""
    # The base class's methods, because those of an SSLSocket would take the encryption off first.
    try:
        socket.socket.shutdown(sock, socket.SHUT_WR)
        deadline = time.monotonic() + ABRUPT_PATIENCE
        while politely:
            _wait(sock, select.POLLIN, deadline, "")
            politely = bool(socket.socket.recv(sock, _PIECE))
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
    except OSError:
        pass  # It has ended already, or goes on talking: there is nothing more to hear.
