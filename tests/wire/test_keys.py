"""Key folders: what is made, who may read it, and that each thing wrong with one has a remedy."""

import base64
import datetime
import os
import stat
import types
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa, x25519

from aero.wire import certificates
from aero.wire.certificates import KeyFileError, load_certificate
from aero.wire.clients import trust
from aero.wire.keys import Identity, make_keys, trust_server

TRUST = "take a client's cert.pem in with `aero keys"


def test_each_party_gets_a_key_a_certificate_and_the_peers(tmp_path: Path) -> None:
    made = make_keys(tmp_path / "keys", days=30)
    assert [certificate.role for certificate in made] == ["server", "client"]
    for certificate, other in zip(made, ("client", "server"), strict=True):
        folder = tmp_path / "keys" / certificate.role
        accepted = "peer.pem" if other == "server" else "clients/client.pem"
        found = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        assert sorted(found) == sorted(["cert.pem", "key.pem", accepted])
        assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
        assert (folder / accepted).read_bytes() == (tmp_path / "keys" / other / "cert.pem").read_bytes()
        loaded = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        assert loaded.fingerprint(hashes.SHA256()).hex() == certificate.peer.fingerprint
        left = certificate.peer.expires - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(days=29) < left <= datetime.timedelta(days=30)
        Identity(folder)
    assert made[0].peer.fingerprint != made[1].peer.fingerprint


def test_existing_keys_are_kept_unless_forced(tmp_path: Path) -> None:
    make_keys(tmp_path)
    before = (tmp_path / "server" / "key.pem").read_bytes()
    with pytest.raises(FileExistsError, match="--force"):
        make_keys(tmp_path)
    assert (tmp_path / "server" / "key.pem").read_bytes() == before
    make_keys(tmp_path, force=True)
    assert (tmp_path / "server" / "key.pem").read_bytes() != before
    Identity(tmp_path / "server")


def test_parties_make_their_own_and_trust_each_other(tmp_path: Path) -> None:
    make_keys(tmp_path / "here", roles=("server",))
    make_keys(tmp_path / "there", roles=("client",), name="alice")
    server, client = tmp_path / "here" / "server", tmp_path / "there" / "client"
    assert Identity(server).problems() == [f"nobody may come in yet: {TRUST} {server} --trust CERT`"]
    with pytest.raises(KeyFileError, match=rf"peer.pem is missing; .*{tmp_path / 'there'} --trust CERT"):
        Identity(client)
    assert trust(server, client / "cert.pem").path == server / "clients" / "alice.pem"
    trust_server(client, server / "cert.pem")
    Identity(client)
    assert Identity(server).problems() == []


def test_a_server_folder_of_before_is_refused_with_the_way_on(tmp_path: Path) -> None:
    make_keys(tmp_path)
    server = tmp_path / "server"
    (server / "clients" / "client.pem").rename(server / "peer.pem")
    with pytest.raises(KeyFileError, match=rf"aero keys {server} --trust {server}/peer\.pem --name NAME"):
        Identity(server)
    trust(server, server / "peer.pem", "alice")
    (server / "peer.pem").unlink()
    assert Identity(server).problems() == []


@pytest.mark.parametrize(
    "settings", [{"days": 0}, {"days": 4000}, {"roles": ()}, {"roles": ("server", "dealer")}, {"roles": ("peer",)}]
)
def test_wrong_settings_are_refused(tmp_path: Path, settings: dict) -> None:
    with pytest.raises(ValueError, match=r"validity|roles"):
        make_keys(tmp_path, **settings)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    make_keys(tmp_path)
    return tmp_path / "client"


def test_a_missing_folder_or_key_names_the_command(home: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=f"aero keys {tmp_path / 'nowhere'}"):
        Identity(tmp_path / "nowhere" / "client")
    (home / "key.pem").unlink()
    with pytest.raises(KeyFileError, match=r"key\.pem is missing.*aero keys"):
        Identity(home)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(home: Path, mode: int) -> None:
    (home / "key.pem").chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        Identity(home)


@pytest.mark.parametrize("name", ["key.pem", "cert.pem", "peer.pem"])
@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_malformed_file_is_named(home: Path, name: str, content: bytes) -> None:
    (home / name).write_bytes(content)
    with pytest.raises(KeyFileError, match=f"{name} is not a .* make one with `aero keys`"):
        Identity(home)


def test_a_folder_in_place_of_a_file_is_named(home: Path) -> None:
    (home / "peer.pem").unlink()
    (home / "peer.pem").mkdir()
    with pytest.raises(KeyFileError, match=r"peer\.pem is a folder, not a file"):
        Identity(home)


def test_a_certificate_of_another_key_is_refused(home: Path) -> None:
    (home / "cert.pem").write_bytes((home / "peer.pem").read_bytes())
    with pytest.raises(KeyFileError, match="does not fit"):
        Identity(home)


def test_another_kind_of_key_is_refused(home: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (home / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    with pytest.raises(KeyFileError, match="not an Ed25519 key"):
        Identity(home)


@pytest.mark.parametrize(("years", "words"), [(2, "expired on .* --force"), (-1, "valid only from .* clock")])
def test_a_certificate_out_of_its_time_is_refused(
    home: Path, years: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shifted(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.now(tz) + datetime.timedelta(days=365 * years)

    monkeypatch.setattr(certificates, "datetime", types.SimpleNamespace(datetime=Shifted, UTC=datetime.UTC))
    with pytest.raises(KeyFileError, match=words):
        Identity(home)


def test_what_the_system_refuses_is_not_said_to_be_missing(home: Path) -> None:
    peer = home / "peer.pem"
    cases = {
        "is a link to nowhere, which does not exist": lambda: peer.symlink_to("nowhere"),
        "cannot be read: Too many levels of symbolic links": lambda: peer.symlink_to(peer),
        "is not a regular file": lambda: os.mkfifo(peer),
        "has 65537 bytes": lambda: peer.write_bytes(bytes((1 << 16) + 1)),
    }
    for complaint, make in cases.items():
        peer.unlink()
        make()
        with pytest.raises(KeyFileError, match=complaint):
            Identity(home)
    with pytest.raises(KeyFileError, match="cannot be read: Not a directory"):
        Identity(home / "cert.pem")
    peer.unlink()
    with pytest.raises(KeyFileError, match=r"peer\.pem is missing; take the server's cert\.pem in"):
        Identity(home)


PRIVATE = {
    "EC": lambda: ec.generate_private_key(ec.SECP256R1()),
    "RSA": lambda: rsa.generate_private_key(65537, 1024),
    "DSA": lambda: dsa.generate_private_key(1024),
    "Ed448": ed448.Ed448PrivateKey.generate,
    "X25519": x25519.X25519PrivateKey.generate,
}


@pytest.mark.parametrize("kind", PRIVATE)
def test_keys_of_another_kind(home: Path, kind: str) -> None:
    key = PRIVATE[kind]()
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    for encryption in (serialization.NoEncryption(), serialization.BestAvailableEncryption(b"secret")):
        (home / "key.pem").write_bytes(key.private_bytes(encoding, form, encryption))
        with pytest.raises(KeyFileError, match=r"is not (an Ed25519 key|a private key \(PEM, no password\))"):
            Identity(home)
    if kind in ("X25519",):
        return
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "other")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate = builder.sign(key, None if kind == "Ed448" else hashes.SHA256())
    (home / "peer.pem").write_bytes(certificate.public_bytes(encoding))
    with pytest.raises(KeyFileError, match="not a certificate of an Ed25519 key"):
        load_certificate(home / "peer.pem")


def test_certificates_that_no_library_reads_in_full(home: Path) -> None:
    """An unknown algorithm, a version that is none, a date that is none: some have an error of their own there."""
    pem = (home / "cert.pem").read_bytes()
    der = x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    version, kind = der.index(b"\xa0\x03\x02\x01\x02") + 4, der.rindex(b"\x30\x05\x06\x03\x2b\x65\x70", 0, -80) + 6
    date = der.index(b"\x17\x0d") + 4
    for place, byte in ((version, 9), (kind, 0x7A), (date, 0x58), (0, 0x31)):
        bad = bytearray(der)
        bad[place] = byte
        text = base64.encodebytes(bytes(bad)).decode()
        (home / "peer.pem").write_text(f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n")
        with pytest.raises(KeyFileError, match="not a certificate"):
            load_certificate(home / "peer.pem")
