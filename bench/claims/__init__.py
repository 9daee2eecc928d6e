"""The claims that come with wirebench: a folder a chapter, one TOML file a claim (see `bench.claim`)."""

from importlib import resources
from importlib.resources.abc import Traversable

CHAPTERS = {
    "request-response": "Request and response",
    "sync-async": "Synchronous and asynchronous",
    "notifications": "Notifications",
    "publish-subscribe": "Publish and subscribe",
    "multiplexing": "Multiplexing and pools",
    "state": "State",
    "proxies": "Sidecars, proxies, load balancers",
    "udp-tcp": "UDP and TCP",
    "https": "TLS and ways to HTTPS",
    "http": "The versions of HTTP",
    "formats": "WebSocket, gRPC, formats",
    "webrtc": "WebRTC and NAT",
    "execution": "Execution",
    "idempotency": "Idempotency",
}
"""The chapters by the name of their folder, in the order of the course."""


def claim_files() -> dict[str, tuple[str, Traversable]]:
    """Every claim's id, with its chapter and its file, in the order of the chapters."""
    found = {}
    for chapter in CHAPTERS:
        folder = resources.files("bench.claims").joinpath(chapter)
        if not folder.is_dir():
            continue
        for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
            if file.name.endswith(".toml"):
                found[file.name.removesuffix(".toml")] = (chapter, file)
    return found
