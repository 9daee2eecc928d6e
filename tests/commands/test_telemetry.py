"""What a load tells Prometheus and OpenTelemetry, as their own programs read it."""

import io
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from bench.display import watch
from bench.load.histogram import new_hdr
from bench.loadprocess import Progress
from bench.plan import PlannedTrial
from bench.scenario import parse_scenario
from bench.telemetry import Totals, exposition, telling

SCENARIO = parse_scenario({"protocol": "tcp", "load": "closed:8"}, "test", 'tcp://a"b:1')
SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\} (\S+)')  # of the text format


def progress(*latencies_ns: int, errors: int = 0) -> Progress:
    hdr = new_hdr()
    for latency_ns in latencies_ns:
        hdr.record_value(latency_ns)
    return Progress(0.5, len(latencies_ns), errors, hdr)


def fed(watcher: Any) -> None:
    watcher.trial_begins(PlannedTrial(SCENARIO, 0, 1))
    watcher.progress(progress(15_000, 15_000, 700_000, errors=2))
    watcher.progress(progress(3_000_000, 40_000_000_000))


def read(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            le = re.search(r'le="([^"]*)"', match[2])
            found[match[1] + (f" {le[1]}" if le else "")] = float(match[3])
    return found


def test_prometheus_is_told_everything_so_far() -> None:
    with watch("x", [SCENARIO], 2, io.StringIO()) as shown:
        totals = Totals(shown)
        fed(totals)
    text = exposition(totals)
    found = read(text)
    assert found["wirebench_requests_total"] == 5
    assert found["wirebench_errors_total"] == 2
    buckets = [(key.split()[1], value) for key, value in found.items() if "bucket" in key]
    assert dict(buckets)["2e-05"] == 2
    assert dict(buckets)["0.001"] == 3
    assert dict(buckets)["10"] == 4
    assert dict(buckets)["+Inf"] == found["wirebench_latency_seconds_count"] == 5
    assert [value for _, value in buckets] == sorted(value for _, value in buckets)
    assert found["wirebench_latency_seconds_sum"] == pytest.approx(40.00373, rel=1e-3)
    assert r'target="tcp://a\"b:1"' in text


def test_prometheus_own_parser_reads_it() -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    with watch("x", [SCENARIO], 2, io.StringIO()) as shown:
        totals = Totals(shown)
        fed(totals)
    families = {family.name: family for family in parser.text_string_to_metric_families(exposition(totals))}
    assert {name: family.type for name, family in families.items()} == {
        "wirebench_requests": "counter", "wirebench_errors": "counter", "wirebench_latency_seconds": "histogram",
    }  # fmt: skip
    assert families["wirebench_requests"].samples[0].labels["target"] == 'tcp://a"b:1'


def test_it_is_served_while_the_load_lasts(capsys: pytest.CaptureFixture[str]) -> None:
    with watch("x", [SCENARIO], 2, io.StringIO()) as shown, telling(shown, "127.0.0.1:0", None) as watcher:
        fed(watcher)
        url = capsys.readouterr().err.split()[-1]
        with urllib.request.urlopen(url) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            assert read(answer.read().decode())["wirebench_requests_total"] == 5
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url)


@contextmanager
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the name that http.server calls
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", received
        server.shutdown()
        thread.join()


def test_opentelemetry_is_sent_the_same() -> None:
    metrics = pytest.importorskip("opentelemetry.proto.collector.metrics.v1.metrics_service_pb2")
    pytest.importorskip("opentelemetry.sdk.metrics")
    with collector() as (url, received), watch("x", [SCENARIO], 2, io.StringIO()) as shown:
        with telling(shown, None, url) as watcher:
            fed(watcher)
        path, body = received[-1]
    import gzip

    message = metrics.ExportMetricsServiceRequest()
    message.ParseFromString(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
    found = {metric.name: metric for metric in message.resource_metrics[0].scope_metrics[0].metrics}
    assert path == "/v1/metrics"
    assert found["wirebench.requests"].sum.data_points[0].as_int == 5
    assert found["wirebench.errors"].sum.data_points[0].as_int == 2
    quantiles = {
        next(a.value.string_value for a in point.attributes if a.key == "quantile"): point.as_double
        for point in found["wirebench.latency"].gauge.data_points
    }
    assert quantiles["0.5"] == pytest.approx(700e-6, rel=1e-3)
    assert quantiles["1"] == pytest.approx(40, rel=1e-3)


def test_a_collector_that_is_not_there_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("opentelemetry.sdk.metrics")
    with watch("x", [SCENARIO], 2, io.StringIO()) as shown, telling(shown, None, "http://127.0.0.1:9") as watcher:
        fed(watcher)
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("wirebench: --otlp: ")
    assert "refused" in err


def test_bad_places_are_refused(refused: Callable[..., str], serve: Callable[..., Any]) -> None:
    address = serve("tcp").address
    for option, value, words in (
        ("--prometheus", "a b", "is no address"),
        ("--prometheus", "192.0.2.1:9", "cannot listen"),
        ("--otlp", "collector:4318", "not the address of a collector"),
    ):
        message = refused("load", f"tcp://{address}", option, value, "--duration", "100ms", "--warmup", "0s")
        assert option in message
        assert words in message
