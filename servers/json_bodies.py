"""Bodies that are JSON objects."""

import json
from typing import Any

from servers.service_error import ServiceError

MAX_JSON_BYTES = 64 * 1024
"""The longest body that is read as JSON."""


def read_object(body: bytes, noun: str) -> dict[str, Any]:
    """The object that a body is; `noun` names what it stands for in errors, like "a todo". All its texts can be written
    as UTF-8.

    Raises ServiceError 413 for a body that is too long, 400 for what is no object.
    """
    if len(body) > MAX_JSON_BYTES:
        raise ServiceError(413, f"{noun} is at most {MAX_JSON_BYTES} bytes of JSON")
    try:
        read = json.loads(body)
        json.dumps(read, ensure_ascii=False).encode()  # half of a pair of surrogates is no text
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise ServiceError(400, f"{noun} is written as a JSON object, in UTF-8")
    return read
