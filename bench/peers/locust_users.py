"""Locust with FastHttpUser: HTTP/1.1, one process, each user with a connection of its own and no pause."""

import json
from pathlib import Path

from bench.peers.process import VoidError
from bench.peers.programs import LOCUST
from bench.peers.target import Target

_LOCUSTFILE = """\
from locust import FastHttpUser, task


class Visitor(FastHttpUser):
    @task
    def get(self):
        self.client.get({path!r})
"""


class LocustUsers:
    program = LOCUST

    def __init__(self, users: int) -> None:
        self._users = users

    def arguments(self, target: Target, duration_s: int, folder: Path) -> list[str]:
        exchange = target.request.exchange()
        (folder / "visitor.py").write_text(_LOCUSTFILE.format(path=exchange.path), encoding="utf-8")
        users = str(self._users)
        # Users start within a moment; --reset-stats leaves that moment out.
        return [
            *("-f", "visitor.py", "--host", target.url.removesuffix(exchange.path), "--headless", "--json"),
            *("-u", users, "-r", users, "-t", f"{duration_s}s", "--reset-stats", "--loglevel", "ERROR"),
        ]

    def rate_per_s(self, output: str) -> float:
        try:
            (entry,) = json.loads(output)
            count, failures = int(entry["num_requests"]), int(entry["num_failures"])
            lasted_s = float(entry["last_request_timestamp"]) - float(entry["start_time"])
        except (ValueError, KeyError, TypeError):
            raise VoidError("locust printed no figures, or those of more than one kind of request") from None
        if failures:
            raise VoidError(f"locust reports {failures} failures")
        if count == 0 or lasted_s <= 0:
            raise VoidError("locust made no request")
        return count / lasted_s
