"""Method and path of an operation, from an OpenAPI document (version 3, in JSON or YAML)."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.errors import UsageError
from bench.registry import choose

_MAX_CHARACTERS = 16_000_000
"""The longest document: of the largest that are published, two or three; reading it takes ten seconds or so."""
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def find_operation(text: str, path: Path, operation: str, where: str) -> tuple[str, str]:
    """The method and the path, with the path of the document's first server before it, of the operation with that
    operationId, in the document with this text. `path` is where that was read, and says by its end whether it is YAML.
    Parameters stay in the path as {name}. Raises UsageError."""
    at = f"{where}: openapi: {path}"
    is_yaml = path.suffix in (".yaml", ".yml")
    if len(text) > _MAX_CHARACTERS:
        raise UsageError(f"{at} has {len(text):,} characters; {_MAX_CHARACTERS:,} are the most that is read")
    try:
        document = _parsed(text.removeprefix("\ufeff"), is_yaml)
    except ValueError as error:
        form = "YAML" if is_yaml else "JSON"
        hint = "" if is_yaml else "; YAML is read from .yaml and .yml"
        raise UsageError(f"{at} is not {form}: {error}{hint}") from None
    version = document.get("openapi") if isinstance(document, dict) else None
    # A version alone is made a text: what else stands there may be as large as aliases of YAML can make it.
    if not isinstance(version, str | float) or not str(version).startswith("3."):
        raise UsageError(f"{at} is no document of OpenAPI 3")
    found = _operations(document)
    if not found:
        raise UsageError(f"{at} has no operation with an operationId; write method and path in the place of both keys")
    method, template = found[choose(operation, found, f"{where}: operation")]
    try:
        return method, _base_path(document) + template
    except ValueError as error:
        raise UsageError(f"{at}: the address of its first server is none: {error}") from None


@lru_cache(maxsize=1)  # the requests of a file are operations of one document, as a rule
def _parsed(text: str, is_yaml: bool) -> Any:
    """What a document says. Raises ValueError."""
    if not is_yaml:
        try:
            return json.loads(text)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
    import yaml

    # libyaml's is several times as quick, where it is built.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _operations(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Method and path of each operation that has an operationId. References to path items are not followed."""
    paths = document.get("paths")
    return {
        operation["operationId"]: (method.upper(), template)
        for template, item in (paths if isinstance(paths, dict) else {}).items()
        if isinstance(item, dict) and isinstance(template, str)
        for method, operation in item.items()
        if method in _METHODS and isinstance(operation, dict) and isinstance(operation.get("operationId"), str)
    }


def _base_path(document: dict[str, Any]) -> str:
    """Raises ValueError."""
    servers = document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers and isinstance(servers[0], dict) else {}
    url = first.get("url", "")
    path = urlsplit(url).path.strip("/") if isinstance(url, str) else ""
    return f"/{path}" if path else ""
