"""What generators are pointed at: a server, and the one request that is sent to it."""

import http.client
import ssl
from dataclasses import dataclass

from bench.contract import Security
from bench.load.spec import Request
from bench.peers.process import VoidError

_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Target:
    """A server that runs, and the request. `answer` is the body that it must answer with."""

    protocol: str
    host: str
    port: int
    request: Request
    answer: bytes
    security: Security | None = None
    """How wirebench speaks TLS with it; None without TLS. Generators take any certificate."""

    @property
    def url(self) -> str:
        """The request's URL, for generators that speak HTTP."""
        scheme = "http" if self.security is None else "https"
        return f"{scheme}://{self.host}:{self.port}{self.request.exchange().path}"


def verify(target: Target) -> None:
    """Correctness before speed: one HTTP/1.1 request, answered rightly. Raises VoidError."""
    exchange = target.request.exchange()
    connection: http.client.HTTPConnection
    if target.security is None:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=_TIMEOUT_S)
    else:
        context = ssl.create_default_context(cafile=target.security.authorities or None)
        connection = http.client.HTTPSConnection(target.host, target.port, timeout=_TIMEOUT_S, context=context)
    try:
        connection.request(exchange.method, exchange.path, exchange.body or None)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise VoidError(f"{target.url} gives no answer: {type(error).__name__}: {error}") from None
    finally:
        connection.close()
    if response.status != 200 or body != target.answer:
        raise VoidError(f"{target.url} does not answer as expected: status {response.status}, {len(body)} bytes")
