"""Proxies of others, each with one thread or worker process, a configuration of ours and a folder of its own that all
it writes goes to. Each is a context manager that gives a Started, and runs in a host of its own
(`bench.programhost`)."""

import contextlib
import grp
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import ServerFailedError, UnsupportedError
from bench.peers.process import VoidError, server_process
from bench.peers.programs import CADDY, HAPROXY, NGINX, NGINX_STREAM, Program
from bench.preflight import raise_open_files


@dataclass(frozen=True)
class Started:
    """A proxy that answers: its port, and its processes, the main one first."""

    port: int
    pids: tuple[int, ...]


_MAX_CONNECTIONS = 30_000

_HAPROXY = """\
global
    nbthread 1
    maxconn {connections}
defaults
    mode {mode}
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
    {options}
listen hop
    bind {host}:{port}{protocol} backlog 4096
    server next {host}:{upstream_port}{next_protocol}
"""

_NGINX = """\
{user}
{module}
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid nginx.pid;
error_log stderr crit;
events {{ worker_connections {connections}; }}
"""

_NGINX_TCP = """\
stream {{
    server {{
        listen {host}:{port} backlog=4096;
        proxy_pass {host}:{upstream_port};
    }}
}}
"""

_NGINX_HTTP = """\
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    map $http_upgrade $hop_connection {{ default upgrade; "" ""; }}
    upstream next {{
        server {host}:{upstream_port};
        keepalive 1024;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {host}:{port} backlog=4096;
        location / {{
            proxy_pass http://next;
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Connection $hop_connection;
            proxy_set_header Upgrade $http_upgrade;
            proxy_buffering off;
            proxy_request_buffering off;
        }}
    }}
}}
"""

_CADDY = """\
{{
    admin off
    auto_https off
    servers {{
        protocols {protocols}
    }}
    log {{
        output stderr
        level ERROR
    }}
}}
{site}:{port} {{
    bind {host}
    {certificate}
    reverse_proxy {scheme}://{host}:{upstream_port} {{
        flush_interval -1
    }}
}}
"""


@contextlib.contextmanager
def haproxy_tcp(host: str, upstream_port: int, http: str, next_http: str, cpus: Sequence[int]) -> Iterator[Started]:
    """HAProxy that passes on bytes. Raises ServerFailedError, UnsupportedError."""
    with _haproxy("haproxy-tcp", "tcp", "", "", host, upstream_port, cpus) as hop:
        yield hop


@contextlib.contextmanager
def haproxy_http(host: str, upstream_port: int, http: str, next_http: str, cpus: Sequence[int]) -> Iterator[Started]:
    """HAProxy that passes on HTTP. Raises ServerFailedError, UnsupportedError."""
    protocol, next_protocol = [" proto h2" if version == "2" else "" for version in (http, next_http)]
    with _haproxy("haproxy-http", "http", protocol, next_protocol, host, upstream_port, cpus) as hop:
        yield hop


def _haproxy(
    name: str, mode: str, protocol: str, next_protocol: str, host: str, upstream_port: int, cpus: Sequence[int]
) -> contextlib.AbstractContextManager[Started]:
    # It takes two descriptors for each connection, and refuses to start with more than it may open.
    connections = min(_MAX_CONNECTIONS, raise_open_files() // 2 - 100)
    # Without it, what comes of a stream of events waits for more.
    options = "option http-no-delay" if mode == "http" else ""

    def command(port: int, folder: Path) -> list[str]:
        text = _HAPROXY.format(
            connections=connections,
            mode=mode,
            options=options,
            protocol=protocol,
            next_protocol=next_protocol,
            host=host,
            port=port,
            upstream_port=upstream_port,
        )
        (folder / "haproxy.cfg").write_text(text, encoding="ascii")
        return [*_command(HAPROXY), "-db", "-f", "haproxy.cfg"]

    return _running(name, command, host, cpus)


@contextlib.contextmanager
def nginx_tcp(host: str, upstream_port: int, http: str, next_http: str, cpus: Sequence[int]) -> Iterator[Started]:
    """nginx that passes on bytes. Raises ServerFailedError, UnsupportedError."""
    module = NGINX_STREAM.module()
    if module is None:
        raise UnsupportedError(f"the hop nginx-tcp needs nginx's stream module; {NGINX_STREAM.get}")
    loaded = f"load_module {module};" if module else ""
    with _nginx("nginx-tcp", _NGINX_TCP, loaded, host, upstream_port, cpus) as hop:
        yield hop


@contextlib.contextmanager
def nginx_http(host: str, upstream_port: int, http: str, next_http: str, cpus: Sequence[int]) -> Iterator[Started]:
    """nginx that passes on HTTP. Raises ServerFailedError, UnsupportedError."""
    with _nginx("nginx-http", _NGINX_HTTP, "", host, upstream_port, cpus) as hop:
        yield hop


def _nginx(
    name: str, role: str, module: str, host: str, upstream_port: int, cpus: Sequence[int]
) -> contextlib.AbstractContextManager[Started]:
    # Started by root, its worker would become a user who may not look into a private folder.
    user = f"user root {grp.getgrgid(0).gr_name};" if os.geteuid() == 0 else ""
    files = raise_open_files()

    def command(port: int, folder: Path) -> list[str]:
        text = (_NGINX + role).format(
            user=user,
            module=module,
            files=files,
            connections=min(_MAX_CONNECTIONS, files - 100),
            host=host,
            port=port,
            upstream_port=upstream_port,
        )
        (folder / "nginx.conf").write_text(text, encoding="ascii")
        return [*_command(NGINX), "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr"]

    return _running(name, command, host, cpus)


@contextlib.contextmanager
def caddy(
    host: str,
    upstream_port: int,
    http: str,
    next_http: str,
    cpus: Sequence[int],
    certificate: str = "",
    private_key: str = "",
) -> Iterator[Started]:
    """Caddy that passes on HTTP: no administration, and no certificates but, for HTTP/3, the one given (files in PEM
    form). Raises ServerFailedError, UnsupportedError."""
    is_quic = http == "3"  # it insists on TCP beside it
    settings = {
        "protocols": "h1 h2 h3" if is_quic else "h1 h2c",
        "site": "https://" if is_quic else "http://",
        "certificate": f"tls {certificate} {private_key}" if is_quic else "",
        "scheme": "h2c" if next_http == "2" else "http",
    }

    def command(port: int, folder: Path) -> list[str]:
        text = _CADDY.format(host=host, port=port, upstream_port=upstream_port, **settings)
        (folder / "Caddyfile").write_text(text, encoding="ascii")
        # What it would keep in the user's home stays in the folder; one thread runs at a time, as with the others.
        kept = [f"HOME={folder}", f"XDG_DATA_HOME={folder}", f"XDG_CONFIG_HOME={folder}", "GOMAXPROCS=1"]
        return ["env", *kept, *_command(CADDY), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]

    with _running("caddy", command, host, cpus) as hop:
        yield hop


def _command(program: Program) -> list[str]:
    found = program.find()
    if found is None:
        raise UnsupportedError(f"{program.name} is not installed; {program.get}")
    return found


@contextlib.contextmanager
def _running(name: str, command: Callable[[int, Path], list[str]], host: str, cpus: Sequence[int]) -> Iterator[Started]:
    import psutil

    with tempfile.TemporaryDirectory(prefix="wirebench-hop-") as folder:
        here = Path(folder)
        try:
            with server_process(name, lambda port: command(port, here), cpus, here, host) as (port, process):
                children = psutil.Process(process.pid).children(recursive=True)
                yield Started(port, (process.pid, *(child.pid for child in children)))
        except VoidError as error:
            raise ServerFailedError(f"the hop {name}: {error}") from None
