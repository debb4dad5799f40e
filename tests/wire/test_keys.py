"""Key folders: what is made, who may read it, and that each thing wrong with one has a remedy."""

import datetime
import stat
import types
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from aero.wire import keys
from aero.wire.keys import Identity, KeyFileError, make_keys


def test_each_party_gets_a_key_a_certificate_and_the_peers(tmp_path: Path) -> None:
    made = make_keys(tmp_path / "keys", days=30)
    assert [certificate.role for certificate in made] == ["server", "client"]
    for certificate, other in zip(made, ("client", "server"), strict=True):
        folder = tmp_path / "keys" / certificate.role
        assert sorted(path.name for path in folder.iterdir()) == ["cert.pem", "key.pem", "peer.pem"]
        assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
        assert (folder / "peer.pem").read_bytes() == (tmp_path / "keys" / other / "cert.pem").read_bytes()
        loaded = x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())
        assert loaded.fingerprint(hashes.SHA256()).hex() == certificate.fingerprint
        left = certificate.expires - datetime.datetime.now(datetime.UTC)
        assert datetime.timedelta(days=29) < left <= datetime.timedelta(days=30)
        Identity(folder)
    assert made[0].fingerprint != made[1].fingerprint


def test_existing_keys_are_kept_unless_forced(tmp_path: Path) -> None:
    make_keys(tmp_path)
    before = (tmp_path / "server" / "key.pem").read_bytes()
    with pytest.raises(FileExistsError, match="--force"):
        make_keys(tmp_path)
    assert (tmp_path / "server" / "key.pem").read_bytes() == before
    make_keys(tmp_path, force=True)
    assert (tmp_path / "server" / "key.pem").read_bytes() != before
    Identity(tmp_path / "server")


def test_parties_may_make_their_own(tmp_path: Path) -> None:
    make_keys(tmp_path / "here", roles=("server",))
    make_keys(tmp_path / "there", roles=("client",))
    with pytest.raises(KeyFileError, match=r"peer.pem is missing; copy the other party's cert.pem"):
        Identity(tmp_path / "here" / "server")
    certificate = (tmp_path / "there" / "client" / "cert.pem").read_bytes()
    (tmp_path / "here" / "server" / "peer.pem").write_bytes(certificate)
    Identity(tmp_path / "here" / "server")


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
    with pytest.raises(KeyFileError, match=r"peer\.pem cannot be read"):
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

    monkeypatch.setattr(keys, "datetime", types.SimpleNamespace(datetime=Shifted, UTC=datetime.UTC))
    with pytest.raises(KeyFileError, match=words):
        Identity(home)
