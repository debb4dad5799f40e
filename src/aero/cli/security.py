"""Whom `serve`, `generate` and `chat` trust, by their options."""

from __future__ import annotations

from pathlib import Path

from aero.mpc.party import Role
from aero.wire.keys import Identity, home_of
from aero.wire.tcp import InsecurePlaintext


def security_of(
    keys: Path | None, party: Role, insecure_plaintext: bool, client_ca: Path | None = None
) -> Identity | InsecurePlaintext:
    """What the options ask for. ValueError where they ask for neither or both."""
    if insecure_plaintext:
        if client_ca is not None:
            raise ValueError("--client-ca says who may come in, and --insecure-plaintext lets everybody in; drop one")
        if keys is not None:
            raise ValueError("--keys and --insecure-plaintext exclude each other; drop one")
        return InsecurePlaintext()
    if keys is None:
        raise ValueError("give --keys DIR (make one with `aero keys DIR`), so that the parties know each other")
    return Identity(home_of(keys, party.word), client_ca)
