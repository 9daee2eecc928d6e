"""What other load generators print: figures are taken from it, and anything not wholly good makes a pair void."""

import pytest

from bench.peers.generator import Generator
from bench.peers.h2load import H2load
from bench.peers.hey import Hey
from bench.peers.locust_users import LocustUsers
from bench.peers.process import VoidError
from bench.peers.wrk import Wrk

WRK_OUTPUT = """\
Running 1s test @ http://127.0.0.1:8080/index.html
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.31ms    1.71ms  13.03ms   86.66%
    Req/Sec    81.81k    27.27k  140.08k    70.00%
  81485 requests in 1.00s, 23.31MB read
Requests/sec:  81106.88
Transfer/sec:     23.20MB
"""
HEY_OUTPUT = """
Summary:
  Total:\t1.0027 secs
  Slowest:\t0.0150 secs
  Requests/sec:\t23260.8508
\x20\x20
Response time histogram:
  0.000 [1]\t|
  0.002 [6990]\t|■■■■■

Status code distribution:
  [200]\t23324 responses

"""
H2LOAD_OUTPUT = """\
starting benchmark...
Application protocol: h2c
finished in 2.00s, 232096.00 req/s, 20.59MB/s
requests: 232096 total, 232096 started, 232096 done, 232096 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 232096 2xx, 0 3xx, 0 4xx, 0 5xx
"""
LOCUST_OUTPUT = """[{"name": "/index.html", "method": "GET", "last_request_timestamp": 1002.5, "start_time": 1000.0,
"num_requests": 12500, "num_none_requests": 0, "num_failures": 0}]"""

GOOD: list[tuple[Generator, str, float]] = [
    (Wrk(64), WRK_OUTPUT, 81106.88),
    (Hey(64), HEY_OUTPUT, 23260.8508),
    (H2load(8, 16), H2LOAD_OUTPUT, 232096.0),
    (LocustUsers(64), LOCUST_OUTPUT, 5000.0),
]

BAD: list[tuple[Generator, str, str, str, str]] = [
    (
        Wrk(64),
        WRK_OUTPUT,
        "Requests/sec",
        "  Socket errors: connect 0, read 1, write 0, timeout 0\nRequests/sec",
        "read 1",
    ),
    (Wrk(64), WRK_OUTPUT, "Requests/sec", "  Non-2xx or 3xx responses: 7\nRequests/sec", "responses: 7"),
    (Wrk(64), WRK_OUTPUT, "81485 requests", "0 requests", "made no request"),
    (Wrk(64), WRK_OUTPUT, "Requests/sec:", "Rate:", "no figures"),
    (Hey(64), HEY_OUTPUT, "  [200]\t23324", "  [200]\t23323 responses\n  [503]\t1", "status 503"),
    (Hey(64), HEY_OUTPUT, "[200]\t23324", "[404]\t23324", "status 404"),
    (Hey(64), HEY_OUTPUT, "\n\n", "\n\nError distribution:\n  [9]\tGet: refused\n\n", "refused"),
    (Hey(64), HEY_OUTPUT, "  [200]\t23324 responses\n", "", "made no request"),
    (Hey(64), HEY_OUTPUT, "Requests/sec:\t", "Requests/sec:\tNaN ", "no figures"),
    (H2load(8, 16), H2LOAD_OUTPUT, "232096 succeeded, 0 failed", "232095 succeeded, 1 failed", "1 failed"),
    (H2load(8, 16), H2LOAD_OUTPUT, "0 errored", "3 errored", "3 errored"),
    (H2load(8, 16), H2LOAD_OUTPUT, "0 timeout", "2 timeout", "2 timeout"),
    (H2load(8, 16), H2LOAD_OUTPUT, "protocol: h2c", "protocol: http/1.1", "did not speak HTTP/2"),
    (H2load(8, 16), H2LOAD_OUTPUT, "req/s", "requests a second", "no figures"),
    (LocustUsers(64), LOCUST_OUTPUT, '"num_failures": 0', '"num_failures": 4', "4 failures"),
    (LocustUsers(64), LOCUST_OUTPUT, '"num_requests": 12500', '"num_requests": 0', "made no request"),
    (LocustUsers(64), LOCUST_OUTPUT, "]", "] trailing", "no figures"),
    (LocustUsers(64), LOCUST_OUTPUT, LOCUST_OUTPUT, "[]", "no figures"),
]


@pytest.mark.parametrize(("generator", "output", "rate"), GOOD, ids=["wrk", "hey", "h2load", "locust"])
def test_output_is_understood(generator: Generator, output: str, rate: float) -> None:
    assert generator.rate_per_s(output) == rate


@pytest.mark.parametrize(("generator", "output", "good", "bad", "reason"), BAD)
def test_output_with_errors_or_without_figures_is_void(
    generator: Generator, output: str, good: str, bad: str, reason: str
) -> None:
    assert good in output
    with pytest.raises(VoidError, match=reason):
        generator.rate_per_s(output.replace(good, bad, 1))
