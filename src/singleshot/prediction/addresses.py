"""Addresses of videos, streams and images as they may be printed and written."""

from __future__ import annotations

from urllib.parse import urlsplit


def without_password(source: str) -> str:
    """A source as it may be printed; an address that cannot be understood may hide its password anywhere."""
    if "://" not in source:  # a file, a folder or a camera
        return source
    try:
        parts = urlsplit(source)
        port = parts.port
    except ValueError:
        return f"{source.partition(':')[0]}://***"
    if parts.password is None and parts.username is None:
        return source
    return parts._replace(netloc=f"***@{parts.hostname or ''}{f':{port}' if port else ''}").geturl()
