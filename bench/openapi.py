"""Method and path of an operation, from an OpenAPI document (version 3, in JSON or YAML)."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.errors import UsageError
from bench.registry import choose

_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


def find_operation(path: Path, operation: str, where: str) -> tuple[str, str]:
    """The method and the path, with the path of the document's first server before it, of the operation with that
    operationId. Parameters stay in the path as {name}. Raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{where}: openapi: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{where}: openapi: {path} is no text in UTF-8") from None
    document = _parsed(text, path, where)
    if not isinstance(document, dict) or not str(document.get("openapi", "")).startswith("3."):
        raise UsageError(f"{where}: openapi: {path} is no document of OpenAPI 3")
    found = _operations(document)
    method, template = found[choose(operation, found, f"{where}: operation")]
    return method, _base_path(document) + template


def _parsed(text: str, path: Path, where: str) -> Any:
    if path.suffix not in (".yaml", ".yml"):
        try:
            return json.loads(text)
        except ValueError as error:
            raise UsageError(
                f"{where}: openapi: {path} is not JSON: {error}; YAML is read from .yaml and .yml"
            ) from None
    import yaml

    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        words = " ".join(str(error).split())
        raise UsageError(f"{where}: openapi: {path} is not YAML: {words}") from None


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
