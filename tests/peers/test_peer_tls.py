"""The real programs over TLS, where they are installed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from bench.contract import Opcode
from bench.peers.generator import run_generator
from bench.peers.h2load import H2load
from bench.peers.nghttpd import nghttpd
from bench.peers.nginx import nginx
from bench.peers.own import lean_server, run_engine, security
from bench.peers.process import VoidError
from bench.peers.target import verify
from bench.peers.wrk import Wrk


@pytest.mark.parametrize("tls", ["1.2", "1.3"])
def test_nginx_answers_wrk_and_the_engine(need: Callable[[str], str], tls: str) -> None:
    need("nginx")
    need("wrk")
    with nginx(64, (), tls) as target:
        assert target.url.startswith("https://")
        assert run_generator(Wrk(4), target, 1, ()) > 10
        assert run_engine(target, "closed:4", 1, ()).rate_per_s > 10
        with pytest.raises(VoidError, match="does not speak this version of TLS"):
            run_engine(replace(target, security=security("1.2" if tls == "1.3" else "1.3")), "closed:1", 1, ())


def test_nghttpd_answers_h2load_and_the_engine(need: Callable[[str], str]) -> None:
    need("nghttpd")
    need("h2load")
    with nghttpd(64, (), "1.3") as target:
        assert run_generator(H2load(2, 4), target, 1, ()) > 10
        assert run_engine(target, "closed:2x4", 1, ()).rate_per_s > 10


def test_h2load_is_not_taken_for_http2_when_it_speaks_http1(need: Callable[[str], str]) -> None:
    need("h2load")
    with (
        lean_server("http1", Opcode.HEALTH, 0, (), "1.3") as target,
        pytest.raises(VoidError, match="h2load"),
    ):
        run_generator(H2load(1, 1), target, 1, ())


def test_a_certificate_is_checked_first() -> None:
    with lean_server("http1", Opcode.ECHO, 64, (), "1.3") as target:
        verify(target)
        assert target.security is not None
        with pytest.raises(VoidError, match="CERTIFICATE_VERIFY_FAILED"):
            verify(replace(target, security=replace(target.security, authorities="")))
