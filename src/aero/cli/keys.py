"""`aero keys`: key pairs and certificates for a server and its clients, and whom each of them trusts."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from aero.cli.options import json_option


class Whose(StrEnum):
    """Whose keys to make."""

    both = "both"
    server = "server"
    client = "client"


def keys(
    directory: Annotated[Path, typer.Argument(help="Folder of keys: DIRECTORY/server, DIRECTORY/client, or both.")],
    role: Annotated[
        Whose, typer.Option(help="Make the keys of one party, on its own machine; both is for trials.")
    ] = Whose.both,
    name: Annotated[
        str | None, typer.Option(help="The client's name: in new keys (client if not given), or with --trust.")
    ] = None,
    days: Annotated[int, typer.Option(help="How long the certificates are valid (1 to 3650).")] = 365,
    force: Annotated[bool, typer.Option("--force", help="Replace existing keys, or a trusted certificate.")] = False,
    trust: Annotated[
        Path | None, typer.Option(help="Trust this certificate: a client's at the server, the server's at a client.")
    ] = None,
    revoke: Annotated[str | None, typer.Option(help="Let the client of this name in no longer, at the server.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the certificates that are here.")] = False,
    json: Annotated[Path | None, json_option("Write what was made, changed or listed as JSON.")] = None,
) -> None:
    """Make the keys with which a server and its clients recognise each other, and say whom they trust.

    Private keys never travel. Each party makes its own (--role, and a --name for a client), gives its cert.pem to the
    other, and takes the other's in with --trust, which prints the fingerprint to compare. A running server picks up
    changes for the next connection. Without --role both are made in one place, which is for trials.
    --json writes an object with one key, certificates: a list of objects with the keys role, name, certificate (its
    file), fingerprint (SHA-256), expires, and state: "" or why it is not accepted.
    """
    from aero.report.record import write_json
    from aero.wire import safe_text

    if sum((trust is not None, revoke is not None, list_)) > 1:
        raise ValueError("--trust, --revoke and --list exclude each other; give one")
    advice = ""
    if trust is not None:
        shown = [_trusted(directory, trust, name, force)]
    elif revoke is not None:
        shown, advice = _revoked(directory, revoke)
    elif list_:
        shown = list(_listed(directory))
    else:
        shown, advice = _made(directory, role, name, days, force)
    console = Console(highlight=False)
    for line in (*(line for entry in shown for line in _lines(entry)), *filter(None, [advice])):
        console.print(safe_text(line).replace("\n", "\ufffd"), soft_wrap=True, markup=False)
    if json is not None:
        write_json(json, {"certificates": shown})


def _made(directory: Path, role: Whose, name: str | None, days: int, force: bool) -> tuple[list[dict[str, Any]], str]:
    from aero.wire.keys import CLIENT, ROLES, make_keys

    roles = ROLES if role is Whose.both else (role.value,)
    made = make_keys(directory, roles=roles, name=name or CLIENT, days=days, force=force)
    if role is Whose.both:
        advice = "both private keys were made here, for trials: elsewhere each party makes its own (--role)"
    else:
        advice = f"give {made[0].path} to the other party, and run `aero keys {directory} --trust` with its cert.pem"
    return [
        _entry(entry.role, entry.peer.name, entry.path, entry.peer.fingerprint, entry.peer.expires) for entry in made
    ], advice


def _trusted(directory: Path, source: Path, name: str | None, force: bool) -> dict[str, Any]:
    """Which side it is for is what the certificate was made for."""
    from aero.wire import clients
    from aero.wire.certificates import CLIENT, SERVER, KeyFileError, load_certificate, role_of
    from aero.wire.keys import home_of, trust_server

    role = role_of(load_certificate(source))
    home = home_of(directory, SERVER if role == CLIENT else CLIENT)
    if not (home / "key.pem").is_file():
        raise KeyFileError(f"{source} is a {role}'s, and {home} has no keys; make them with `aero keys --role`")
    if role == CLIENT:
        entry = clients.trust(home, source, name, force=force)
        assert entry.peer is not None
        return _entry(CLIENT, entry.name, entry.path, entry.peer.fingerprint, entry.peer.expires)
    if name is not None:
        raise ValueError("--name is for a client's certificate; a client knows one server")
    peer = trust_server(home, source, force=force)
    return _entry(SERVER, SERVER, home / "peer.pem", peer.fingerprint, peer.expires)


def _revoked(directory: Path, name: str) -> tuple[list[dict[str, Any]], str]:
    from aero.wire import clients
    from aero.wire.keys import CLIENT, SERVER, home_of

    home = home_of(directory, SERVER)
    if not home.is_dir():
        raise ValueError(f"{home} does not exist; give the folder of the server's keys")
    found = clients.revoke(home, name)
    advice = (
        "" if found else f"no certificate of {name} was here; now none of an authority's comes in by this name either"
    )
    return [_entry(CLIENT, name, home / clients.FOLDER / f"{name}.revoked", state=clients.REVOKED)], advice


def _listed(directory: Path) -> Iterator[dict[str, Any]]:
    from aero.files.reading import present
    from aero.wire import clients
    from aero.wire.certificates import CLIENT, ROLES, SERVER, KeyFileError, check_dates, load_certificate, role_of
    from aero.wire.keys import Peer

    def described(role: str, name: str, path: Path, state: str = "") -> dict[str, Any]:
        try:
            certificate = load_certificate(path, dated=False)
            peer = Peer.of(SERVER, certificate)
        except KeyFileError as error:
            return _entry(role, name, path, state=state or str(error))
        try:
            check_dates(certificate, path)
        except KeyFileError as error:
            state = state or str(error)
        return _entry(role, name, path, peer.fingerprint, peer.expires, state)

    homes = [directory] if present(directory / "key.pem") else [directory / role for role in ROLES]
    homes = [home for home in homes if present(home / "cert.pem")]
    if not homes:
        raise ValueError(f"{directory} has no keys; make them with `aero keys {directory}`")
    for home in homes:
        role = role_of(load_certificate(home / "cert.pem", dated=False))
        yield described(role, f"this {role}", home / "cert.pem")
        if role == CLIENT:
            yield described(SERVER, "its server", home / "peer.pem")
            continue
        for entry in clients.entries(home):
            yield described(CLIENT, entry.name, entry.path, entry.problem)


def _entry(
    role: str,
    name: str,
    path: Path,
    fingerprint: str | None = None,
    expires: datetime.datetime | None = None,
    state: str = "",
) -> dict[str, Any]:
    when = expires and expires.isoformat()
    return {
        "role": role,
        "name": name,
        "certificate": str(path),
        "fingerprint": fingerprint,
        "expires": when,
        "state": state,
    }


def _lines(entry: dict[str, Any]) -> Iterator[str]:
    yield f"{entry['name']}: {entry['certificate']}" + (
        f", expires {entry['expires'][:10]}" if entry["expires"] else ""
    )
    if entry["fingerprint"]:
        yield f"  SHA-256 {entry['fingerprint']}"
    if entry["state"]:
        yield f"  {entry['state']}"
