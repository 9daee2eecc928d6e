"""The TLS of library clients."""

import asyncio
import ssl
from functools import lru_cache
from typing import Any

from bench.contract import Security

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


@lru_cache(maxsize=4)
def client_context(security: Security, alpn: str) -> ssl.SSLContext:
    """The context of the clients that speak this, by its name of ALPN. Raises OSError if the authorities cannot be
    read."""
    context = ssl.create_default_context(cafile=security.authorities or None)
    context.minimum_version = context.maximum_version = _VERSIONS[security.tls]
    if security.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols([alpn])
    return context


def cause(error: BaseException) -> OSError | None:
    """The error of the system, or of TLS, that a library's error comes from; None if there is none."""
    found = None
    step: BaseException | None = error
    while step is not None:
        if isinstance(step, OSError) and (found is None or step.errno or isinstance(step, ssl.SSLError)):
            found = step
        step = step.__cause__ or step.__context__
    return found


async def why_not(host: str, port: int, security: Security | None, alpn: str) -> OSError:
    """Why a library that does not say so could not connect."""
    tls: dict[str, Any] = {}
    if security is not None:
        tls = {"ssl": client_context(security, alpn), "server_hostname": security.server_name}
    try:
        _, writer = await asyncio.open_connection(host, port, **tls)
    except OSError as error:
        return error
    writer.close()
    return ConnectionError("the library could not connect, and does not say why")
