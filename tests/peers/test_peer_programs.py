"""The real programs, where they are installed: they do requests, and their errors are seen."""

from collections.abc import Callable

import pytest

from bench.contract import Opcode, pattern
from bench.load.spec import Request
from bench.peers.asgi import asgi_server
from bench.peers.generator import run_generator
from bench.peers.h2load import H2load
from bench.peers.hey import Hey
from bench.peers.idle import bytes_per_idle_connection
from bench.peers.locust_users import LocustUsers
from bench.peers.nghttpd import nghttpd
from bench.peers.nginx import nginx
from bench.peers.own import lean_server, run_engine
from bench.peers.process import VoidError
from bench.peers.programs import GRANIAN, LOCUST, UVICORN, Program
from bench.peers.recorder_cost import record_ns
from bench.peers.target import Target, verify
from bench.peers.wrk import Wrk


def need_locust() -> None:
    # Not by importing it: that would have gevent take over this process's children and sockets.
    if LOCUST.find() is None:
        pytest.skip(f"locust is not installed ({LOCUST.get})")


def test_nginx_answers_all_http1_generators(need: Callable[[str], str]) -> None:
    for name in ("nginx", "wrk", "hey"):
        need(name)
    need_locust()
    with nginx(64, ()) as target:
        for generator in (Wrk(4), Hey(4), LocustUsers(4)):
            assert run_generator(generator, target, 1, ()) > 10
        assert run_engine(target, "closed:4", 1, ()).rate_per_s > 10


def test_errors_of_real_generators_are_seen(need: Callable[[str], str]) -> None:
    for name in ("nginx", "wrk", "hey"):
        need(name)
    with nginx(64, ()) as target:
        absent = Target("http1", target.host, target.port, Request(foreign=("GET", "/absent")), b"")
        with pytest.raises(VoidError, match="Non-2xx or 3xx responses"):
            run_generator(Wrk(2), absent, 1, ())
        with pytest.raises(VoidError, match="status 404"):
            run_generator(Hey(2), absent, 1, ())
        with pytest.raises(VoidError, match="status"):
            run_engine(absent, "closed:2", 1, ())
        with pytest.raises(VoidError, match="status 404"):
            verify(absent)


def test_nghttpd_answers_h2load(need: Callable[[str], str]) -> None:
    need("nghttpd")
    need("h2load")
    with nghttpd(64, ()) as target:
        assert run_generator(H2load(2, 4), target, 1, ()) > 10
        absent = Target("http2", target.host, target.port, Request(foreign=("GET", "/absent")), b"")
        with pytest.raises(VoidError, match="failed"):
            run_generator(H2load(2, 4), absent, 1, ())


def test_locust_failures_are_seen() -> None:
    need_locust()
    with lean_server("http1", Opcode.BYTES, 64, ()) as target:
        absent = Target("http1", target.host, target.port, Request(foreign=("GET", "/absent")), b"")
        with pytest.raises(VoidError, match="locust"):
            run_generator(LocustUsers(2), absent, 1, ())


@pytest.mark.parametrize("program", [UVICORN, GRANIAN], ids=lambda program: program.name)
def test_asgi_servers_echo(program: Program) -> None:
    if program.find() is None:
        pytest.skip(f"{program.name} is not installed ({program.get})")
    with asgi_server(program, 64, ()) as target:
        assert target.answer == pattern(64)
        assert run_engine(target, "closed:4", 1, ()).rate_per_s > 10  # which checks every answer's content


def test_wrk_posts_the_body(need: Callable[[str], str]) -> None:
    need("wrk")
    with lean_server("http1", Opcode.UPLOAD, 300, ()) as target:  # an answer of 200 says that a PUT with a body came
        assert run_generator(Wrk(2), target, 1, ()) > 10


def test_an_answer_that_differs_is_void() -> None:
    with lean_server("http1", Opcode.ECHO, 64, ()) as target:
        verify(target)
        with pytest.raises(VoidError, match="does not answer as expected"):
            verify(Target("http1", target.host, target.port, target.request, b"x" * 64))


def test_idle_connections_are_counted_and_weigh_something() -> None:
    assert 1_000 < bytes_per_idle_connection(1_000, (), "http1") < 50_000


def test_recording_costs_something_and_little() -> None:
    assert 20 < record_ns(()) < 20_000
