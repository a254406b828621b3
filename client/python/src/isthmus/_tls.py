"""Whom connections trust, and what they show of the client."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Union

import grpc

from .errors import UsageError

Pem = Union[str, "os.PathLike[str]", bytes]
"""A file's path, or what such a file holds, as bytes."""


def _read(given: Pem, name: str, what: str) -> bytes:
    """The PEM text, if it is one that holds a section which ends with these words."""
    if isinstance(given, bytes):
        where, pem = name, given
    elif isinstance(given, (str, os.PathLike)):
        where = f"{name} {os.fspath(given)!r}"
        try:
            pem = Path(given).read_bytes()
        except OSError as error:
            raise UsageError(f"{where}: {error.strerror or error}") from error
    else:
        raise UsageError(f"{name} has to be a path, or PEM as bytes, not {type(given).__name__}")
    begin, end = "-----BEGIN ", f"{what}-----"
    lines = (line.strip() for line in pem.decode("utf-8", "replace").splitlines())
    if not any(line.startswith(begin) and line.endswith(end) for line in lines):
        raise UsageError(f"{where}: holds no {what.lower()} in PEM")
    return pem


def credentials_of(ca: Pem | None, cert: Pem | None, key: Pem | None) -> grpc.ChannelCredentials | None:
    """What encrypted connections are made with; nothing where nothing was given.

    Raises:
        UsageError: When a file can't be read or isn't what it should be, or a certificate comes without its key.
    """
    if (cert is None) != (key is None):
        raise UsageError("cert and key go together: a certificate, and its key")
    if ca is None and cert is None:
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=None if ca is None else _read(ca, "ca", "CERTIFICATE"),
        private_key=None if key is None else _read(key, "key", "PRIVATE KEY"),
        certificate_chain=None if cert is None else _read(cert, "cert", "CERTIFICATE"),
    )
