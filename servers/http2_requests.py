"""What a client asks for over HTTP/2: the fields of a request (RFC 9113, section 8.3.1) become a route or a refusal."""

from bench.contract import MAX_BODY_BYTES
from bench.wire.header_blocks import Fields, Head, MalformedError
from servers.service import Route, Service, ServiceError

MAX_HEADER_LIST_BYTES = 32 * 1024
"""The longest list of fields, each counted with 32 bytes beside its own (SETTINGS_MAX_HEADER_LIST_SIZE)."""

_PSEUDO = {b"method", b"scheme", b"authority", b"path"}


class Refusal:
    """An answer that says why a request cannot be run."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, message: str, fields: Fields = ()) -> None:
        self.status = status
        self.body = message.encode() + b"\n"
        self.fields = fields


TOO_LARGE = Refusal(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
_BAD_FIELDS = Refusal(431, f"the fields of the request are longer than {MAX_HEADER_LIST_BYTES} bytes")


class Request:
    """What a header block asks for; the same for all requests whose blocks are equal."""

    __slots__ = ("content_length", "expects_continue", "head_only", "is_trailers", "malformed", "outcome")

    def __init__(self, service: Service, fields: Fields) -> None:
        self.outcome: Route | Refusal = _BAD_FIELDS
        self.malformed = self.is_trailers = self.head_only = self.expects_continue = False
        self.content_length: int | None = None
        if sum(len(name) + len(value) + 32 for name, value in fields) > MAX_HEADER_LIST_BYTES:
            return
        try:
            head = Head(fields)
            self.content_length = head.content_length
            self.is_trailers = not head.pseudo
            self.outcome = self._route(service, head)
        except ServiceError as error:
            self.outcome = Refusal(error.status, error.message)
        except MalformedError:
            self.malformed = True

    def _route(self, service: Service, head: Head) -> Route | Refusal:
        """Raises MalformedError (section 8.3.1) and ServiceError."""
        pseudo = head.pseudo
        method, path = pseudo.get(b"method", b""), pseudo.get(b"path", b"")
        if method == b"CONNECT":
            return Refusal(501, "this server is no proxy")
        if not (method and path and b"scheme" in pseudo and pseudo.keys() <= _PSEUDO):
            raise MalformedError("pseudo-header fields")
        self.head_only = method == b"HEAD"
        for name, value in head.fields:
            if name == b"host" and value != pseudo.get(b"authority", value):
                raise MalformedError("two hosts")
            if name == b"expect":
                if value.lower() != b"100-continue":
                    return Refusal(417, "the only expectation known is 100-continue")
                self.expects_continue = True
        if head.content_length is not None and head.content_length > MAX_BODY_BYTES:
            return TOO_LARGE
        route = service.route(path)
        if method not in route.methods:
            allowed = b", ".join(route.methods)
            return Refusal(405, f"allowed here: {allowed.decode()}", [(b"allow", allowed)])
        return route
