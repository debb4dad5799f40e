"""`aero keys`: key pairs and certificates for a server and a client."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aero.cli.options import json_option


class Role(StrEnum):
    """Whose keys to make."""

    both = "both"
    server = "server"
    client = "client"


def keys(
    directory: Annotated[Path, typer.Argument(help="Folder to make: DIRECTORY/server and DIRECTORY/client.")],
    role: Annotated[Role, typer.Option(help="Make the keys of one party only, on its own machine.")] = Role.both,
    days: Annotated[int, typer.Option(help="How long the certificates are valid (1 to 3650).")] = 365,
    force: Annotated[bool, typer.Option("--force", help="Replace existing keys.")] = False,
    json: Annotated[Path | None, json_option("Write what was made as JSON.")] = None,
) -> None:
    """Make the keys with which a server and a client recognise each other.

    Each party gets key.pem (private, stays on its machine), cert.pem, and peer.pem, the one certificate it accepts.
    With --role, a party makes its own keys on its own machine, and the two exchange their cert.pem files: each stores
    the other's as its peer.pem. --json writes an object with one key, certificates: a list of objects with the keys
    role, folder, certificate, fingerprint (SHA-256) and expires.
    """
    from aero.report.record import write_json
    from aero.wire.keys import ROLES, make_keys

    made = make_keys(directory, roles=ROLES if role is Role.both else (role.value,), days=days, force=force)
    console = Console()
    for certificate in made:
        text = f"{certificate.role}: {certificate.path.parent}, certificate expires {certificate.expires:%Y-%m-%d}"
        console.print(text, f"  SHA-256 {certificate.fingerprint}", sep="\n", soft_wrap=True, highlight=False)
    if role is Role.both:
        advice = f"move {directory / 'client'} to the client's machine over a safe way, and delete it here"
    else:
        advice = f"give {made[0].path} to the other party, and store its cert.pem as {made[0].path.parent / 'peer.pem'}"
    console.print(advice, soft_wrap=True, markup=False, highlight=False)
    if json is not None:
        write_json(
            json,
            {
                "certificates": [
                    {
                        "role": certificate.role,
                        "folder": str(certificate.path.parent),
                        "certificate": str(certificate.path),
                        "fingerprint": certificate.fingerprint,
                        "expires": certificate.expires.isoformat(),
                    }
                    for certificate in made
                ]
            },
        )
