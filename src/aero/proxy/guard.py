"""Who may ask: the machine's own programs, and web pages of named origins.

Any page in the user's browser can send requests to 127.0.0.1. Two checks keep it out: a page of another origin says so
in its Origin header; and a page that makes its own name point to this machine (DNS rebinding) says that name in Host.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.requests import Request

from aero.proxy.requests import ApiError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN = ("/", "/health", "/page/")
"""What needs no API key: nothing of anybody's text is there."""


class Guard:
    """hosts: names by which the endpoint may be asked, beside the loopback's; origins: of pages that may ask, as
    `https://example.org`; api_key: what every program has to present, or None."""

    def __init__(self, hosts: Iterable[str] = (), origins: Iterable[str] = (), api_key: str | None = None) -> None:
        self._hosts = LOOPBACK | {host.lower() for host in hosts}
        self.origins = frozenset(_origin(origin) for origin in origins)
        if api_key is not None and (not api_key or not api_key.isascii()):
            raise ValueError("an API key has at least one character, all of them ASCII")
        self._api_key = api_key

    def check(self, request: Request) -> None:
        """ApiError for a request that is not answered."""
        host = request.headers.get("host", "")
        if _name_of(host) not in self._hosts:
            raise ApiError(
                "this endpoint is not known by that host name; start it with --allow-host to have it answer there",
                status=403,
                code="forbidden_host",
            )
        origin = request.headers.get("origin")
        own = origin is not None and urlsplit(origin).netloc.lower() == host.lower()
        if origin is not None and not own and origin.lower() not in self.origins:
            raise ApiError(
                "pages of that origin may not ask here; start the endpoint with --allow-origin to let them",
                status=403,
                code="forbidden_origin",
            )
        path = request.url.path
        if self._api_key is None or path in OPEN or path.startswith(OPEN[-1]):
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._api_key.encode()):
            raise ApiError("the API key is missing or wrong", status=401, code="invalid_api_key")


def _origin(text: str) -> str:
    parts = urlsplit(text)
    if not parts.scheme or not parts.netloc or parts.path.strip("/") or parts.query:
        raise ValueError(f"{text!r} is not an origin; give one such as https://example.org")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _name_of(host: str) -> str:
    """The name in a Host header, without port and brackets; "" where it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if host else ""
    except ValueError:
        return ""
