"""Servers that take no more on a connection after so many requests, as nginx does: nothing fails, nothing is lost."""

import grp
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.load.histogram import summarise
from bench.load.spec import Request
from bench.peers.process import serving
from tests.load.test_engine import S, run, spec

_CONFIGURATION = """\
{user}
daemon off;
master_process off;
pid nginx.pid;
events {{}}
http {{
    access_log off;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    keepalive_requests 20;
    server {{
        listen 127.0.0.1:{port}{http2};
        location = / {{ return 200 hello; }}
    }}
}}
"""
CLIENTS = {"http1": "clients.http1:Http1Client", "http2": "clients.http2:Http2Client"}


@pytest.mark.parametrize("load", ["closed:4x4", "open:500/s"])
@pytest.mark.parametrize("protocol", CLIENTS)
def test_connections_that_take_no_more(need: Callable[[str], str], tmp_path: Path, protocol: str, load: str) -> None:
    program = need("nginx")

    def command(port: int) -> list[str]:
        user = f"user root {grp.getgrgid(0).gr_name};" if os.geteuid() == 0 else ""
        http2 = " http2" if protocol == "http2" else ""
        (tmp_path / "nginx.conf").write_text(_CONFIGURATION.format(user=user, port=port, http2=http2))
        return [program, "-p", f"{tmp_path}/", "-c", "nginx.conf", "-e", "stderr"]

    with serving("nginx", command, (), tmp_path) as port:
        asked: dict[str, Any] = {
            "protocol": protocol,
            "client": CLIENTS[protocol],
            "request": Request(foreign=("GET", "/"), answer="hello"),
        }
        result = run([spec(port, load, "2", **asked)])
    assert result["errors"] == {}
    assert result["dropped"] == 0
    if load.startswith("open"):
        assert result["completed"] == 500
        return
    latency = summarise(result["latency"])
    assert latency is not None
    assert latency["mean"] * result["done_in_window"] / S == pytest.approx(16, rel=0.1)
