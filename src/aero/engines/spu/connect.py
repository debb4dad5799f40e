"""SPU between two parties that have an authenticated channel already.

SPU opens connections of its own, one in each direction, between the two addresses that the channel joins. Each party
makes a key and a certificate for this session alone and sends the certificate over the channel, so SPU's connections
are authenticated by whoever the channel authenticated:

    each party  ->  {port, certificate}
"""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aero.engines.engine import Engine, Progress
from aero.engines.spu.engine import SpuEngine, TlsFiles, free_port
from aero.mpc.party import Role
from aero.wire import Channel, ProtocolError

_MAX_CERTIFICATE = 1 << 14


def connect_spu(
    party: Role, channel: Channel, *, insecure_plaintext: bool = False, progress: Progress | None = None
) -> Engine:
    """SPU, connected to the other party's.

    insecure_plaintext: the channel has no TLS, and SPU's connections will have none.
    Raises ValueError for a channel in memory, ConnectionError when the other party goes away.
    """
    if channel.hosts is None:
        raise ValueError("SPU connects over the network; give a TCP channel")
    own_host, peer_host = channel.hosts
    port = free_port(own_host)
    with tempfile.TemporaryDirectory(prefix="aero-") as folder:
        files = Path(folder)
        certificate = "" if insecure_plaintext else _session_certificate(files)
        channel.send_control({"say": "engine", "port": port, "certificate": certificate})
        message = channel.recv_control()
        peer_port, peer_certificate = message.get("port"), message.get("certificate")
        if (
            type(peer_port) is not int
            or not 0 < peer_port < 65536
            or not isinstance(peer_certificate, str)
            or len(peer_certificate) > _MAX_CERTIFICATE
        ):
            raise ProtocolError("the other side's engine has no usable address")
        tls = None
        if not insecure_plaintext:
            (files / "peer.pem").write_text(peer_certificate)
            tls = TlsFiles(files / "cert.pem", files / "key.pem", files / "peer.pem")
        return SpuEngine(
            party,
            _join(own_host, port),
            _join(peer_host, peer_port),
            tls=tls,
            insecure_plaintext=insecure_plaintext,
            progress=progress,
        )


def _session_certificate(folder: Path) -> str:
    """Make key.pem and cert.pem, self-signed and valid for a day; returns the certificate as PEM text.

    P-256, and no statement of usage: SPU's TLS shows one certificate in both roles, and reads no Ed25519 keys.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "aero session")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "key.pem").touch(mode=0o600)
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    text = certificate.public_bytes(serialization.Encoding.PEM).decode()
    (folder / "cert.pem").write_text(text)
    return text


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
