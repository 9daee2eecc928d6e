"""The stages of a pipeline: what is done with an upload, by a server that is called or a worker that reads a topic."""

import base64
import binascii
import hashlib
import json
import zlib
from collections.abc import Callable

from bench.contract import MAX_BODY_BYTES


def compress(body: bytes) -> bytes:
    """The body, smaller (RFC 1950)."""
    return zlib.compress(body)


def format_report(body: bytes) -> bytes:
    """A document that holds the body, and says what it is: JSON."""
    digest = hashlib.sha256(body).hexdigest()
    return json.dumps({"bytes": len(body), "sha256": digest, "data": base64.b64encode(body).decode("ascii")}).encode()


STAGES: dict[str, Callable[[bytes], bytes]] = {"compress": compress, "format": format_report}
"""The stages between upload and notification, in their order."""


def restore(document: bytes) -> bytes:
    """What was uploaded, from what the last stage made of it. Raises ValueError for anything else."""
    try:
        read = json.loads(document)
        body = base64.b64decode(read["data"], validate=True)
        if (len(body), hashlib.sha256(body).hexdigest()) != (read["bytes"], read["sha256"]):
            raise ValueError("a document whose body is another")
        unpacker = zlib.decompressobj()
        restored = unpacker.decompress(body, MAX_BODY_BYTES)
        if not unpacker.eof:
            raise ValueError("a document whose body is not whole")
        return restored
    except (KeyError, TypeError, binascii.Error, zlib.error) as error:
        raise ValueError(f"not a document of the last stage: {error}") from None
