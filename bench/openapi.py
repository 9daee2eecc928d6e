"""Method and path of an operation, from an OpenAPI document (version 3, in JSON or YAML)."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.errors import UsageError
from bench.registry import choose

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def find_operation(text: str, path: Path, operation: str, where: str) -> tuple[str, str]:
    """The method and the path, with the path of the document's first server before it, of the operation with that
    operationId, in the document with this text. `path` is where that was read, and says by its end whether it is YAML.
    Parameters stay in the path as {name}. Raises UsageError."""
    is_yaml = path.suffix in (".yaml", ".yml")
    try:
        document = _parsed(text, is_yaml)
    except ValueError as error:
        form = "YAML" if is_yaml else "JSON"
        hint = "" if is_yaml else "; YAML is read from .yaml and .yml"
        raise UsageError(f"{where}: openapi: {path} is not {form}: {error}{hint}") from None
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise UsageError(f"{where}: openapi: {path} is no document of OpenAPI 3")
    found = _operations(document)
    method, template = found[choose(operation, found, f"{where}: operation")]
    return method, _base_path(document) + template


@lru_cache(maxsize=1)  # the requests of a file are operations of one document, as a rule
def _parsed(text: str, is_yaml: bool) -> Any:
    """What a document says. Raises ValueError."""
    if not is_yaml:
        return json.loads(text)
    import yaml

    # libyaml's is several times as quick, where it is built.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None


def _operations(document: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Method and path of each operation that has an operationId."""
    paths = document.get("paths")
    return {
        operation["operationId"]: (method.upper(), template)
        for template, item in (paths if isinstance(paths, dict) else {}).items()
        if isinstance(item, dict)
        for method, operation in item.items()
        if method in _METHODS and isinstance(operation, dict) and isinstance(operation.get("operationId"), str)
    }


def _base_path(document: dict[str, Any]) -> str:
    servers = document.get("servers")
    first = servers[0] if isinstance(servers, list) and servers and isinstance(servers[0], dict) else {}
    return urlsplit(str(first.get("url", ""))).path.rstrip("/")
