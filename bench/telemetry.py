"""What a load tells other programs while it goes on: Prometheus, which asks, and OpenTelemetry, which is sent it.

Both get the totals since measuring began: requests that were answered, requests that failed, and how long answers took.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bench.address import parse_place
from bench.errors import UnsupportedError, UsageError
from bench.load.histogram import new_hdr, percentiles, recorded
from bench.loadprocess import Progress
from bench.output import say
from bench.plan import PlannedTrial
from bench.run import Watcher

_EDGES_NS = [digit * 10**power for power in range(4, 10) for digit in (1, 2, 5)] + [10**10]
"""10 µs to 10 s: what histograms of Prometheus count up to."""
_EXPORT_INTERVAL_MS = 1000
_EXPORT_TIMEOUT_S = 2
_PROMETHEUS_PORT = 9464
"""Where exporters of OpenTelemetry are asked, if nothing else is said."""
_QUANTILES = (0.5, 0.99, 1.0)


class Totals:
    """A watcher that adds up, and lets another see everything too. May be read by other threads."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._lock = threading.Lock()
        self._progress = Progress(0.0, 0, 0, new_hdr())
        self.labels: dict[str, str] = {}
        """Which load it is."""

    def trial_begins(self, planned: PlannedTrial) -> None:
        scenario = planned.scenario
        self.labels = {"protocol": scenario.protocol, "load": str(scenario.load), "target": scenario.group}
        self._watcher.trial_begins(planned)

    def progress(self, progress: Progress) -> None:
        with self._lock:
            self._progress = self._progress.plus(progress)
        self._watcher.progress(progress)

    def trial_ended(self, trial: dict[str, Any]) -> None:
        self._watcher.trial_ended(trial)

    def counts(self) -> tuple[int, int]:
        """How many requests were answered, and how many failed."""
        return self._progress.completed, self._progress.errors

    def quantile_s(self, share: float) -> float | None:
        """The latency that this share of the answers did not exceed; None without any."""
        with self._lock:
            hdr = self._progress.hdr
            return percentiles(hdr, share * 100)[0] / 1e9 if hdr.total_count else None

    def up_to(self) -> tuple[list[int], int, float]:
        """How many answers took at most each of the edges, how many there are, and how long all took, in seconds."""
        with self._lock:
            values, counts = recorded(self._progress.hdr)
        summed = np.concatenate([[0], np.cumsum(counts)])
        return (
            summed[np.searchsorted(values, _EDGES_NS, "right")].tolist(),
            int(summed[-1]),
            float(values @ counts) / 1e9,
        )


@contextmanager
def telling(watcher: Watcher, prometheus: str | None, otlp: str | None) -> Iterator[Watcher]:
    """A watcher that tells those who are named ("HOST:PORT" to be asked at, a URL to send to), and the given one.

    Raises UsageError, and UnsupportedError where what it takes is not installed.
    """
    if prometheus is None and otlp is None:
        yield watcher
        return
    totals = Totals(watcher)
    with ExitStack() as stack:
        if prometheus is not None:
            stack.enter_context(_prometheus(totals, prometheus))
        if otlp is not None:
            stack.enter_context(_otlp(totals, otlp))
        yield totals


# Prometheus


@contextmanager
def _prometheus(totals: Totals, place: str) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # the name that http.server calls
            found = urlsplit(self.path).path == "/metrics"
            body = exposition(totals).encode() if found else b"see /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8" if found else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    host, port = parse_place(place, "--prometheus", _PROMETHEUS_PORT)
    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--prometheus: cannot listen at {place}: {reason}; choose another place") from None
    server.daemon_threads = True
    say(f"metrics for Prometheus: http://{host}:{server.server_port}/metrics")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def exposition(totals: Totals) -> str:
    """The totals in Prometheus' text format, version 0.0.4."""
    completed, errors = totals.counts()
    up_to, count, sum_s = totals.up_to()
    labels = ",".join(f'{name}="{_escape(value)}"' for name, value in totals.labels.items())
    buckets = [(f"{edge_ns / 1e9:g}", number) for edge_ns, number in zip(_EDGES_NS, up_to, strict=True)]
    lines = [
        "# HELP wirebench_requests_total Requests that were answered rightly since measuring began.",
        "# TYPE wirebench_requests_total counter",
        f"wirebench_requests_total{{{labels}}} {completed}",
        "# HELP wirebench_errors_total Requests that failed since measuring began.",
        "# TYPE wirebench_errors_total counter",
        f"wirebench_errors_total{{{labels}}} {errors}",
        "# HELP wirebench_latency_seconds From when a request was due to its answer.",
        "# TYPE wirebench_latency_seconds histogram",
        *(f'wirebench_latency_seconds_bucket{{{labels},le="{le}"}} {n}' for le, n in [*buckets, ("+Inf", count)]),
        f"wirebench_latency_seconds_sum{{{labels}}} {sum_s:.9g}",
        f"wirebench_latency_seconds_count{{{labels}}} {count}",
    ]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# OpenTelemetry


class _FirstOnly(logging.Handler):
    """Tells of the first thing that goes wrong with sending: one line, and no other each second after it."""

    told = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self.told and record.levelno >= logging.WARNING:
            self.told = True
            say(f"--otlp: {record.getMessage().splitlines()[0]}")


@contextmanager
def _otlp(totals: Totals, url: str) -> Iterator[None]:
    """Sends the totals every second, by OTLP over HTTP."""
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(f"--otlp: {url!r:.200} is not the address of a collector, like http://127.0.0.1:4318")
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.metrics import CallbackOptions, Observation
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import Resource
    except ImportError:
        raise UnsupportedError("--otlp: OpenTelemetry is not installed: pip install 'wirebench[otlp]'") from None

    def observed(values: Callable[[], Mapping[str, float | None]], label: str) -> Callable[..., list[Observation]]:
        def observe(_: CallbackOptions) -> list[Observation]:
            return [
                Observation(value, {**totals.labels, **({label: name} if label else {})})
                for name, value in values().items()
                if value is not None
            ]

        return observe

    logger, only_first = logging.getLogger("opentelemetry"), _FirstOnly()
    logger.addHandler(only_first)
    logger.propagate = False
    endpoint = url if parts.path.strip("/") else f"{url.rstrip('/')}/v1/metrics"
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S), _EXPORT_INTERVAL_MS
    )
    provider = MeterProvider([reader], Resource.create({"service.name": "wirebench"}))
    meter = provider.get_meter("wirebench")
    meter.create_observable_counter("wirebench.requests", [observed(lambda: {"": totals.counts()[0]}, "")])
    meter.create_observable_counter("wirebench.errors", [observed(lambda: {"": totals.counts()[1]}, "")])
    quantiles = observed(lambda: {f"{share:g}": totals.quantile_s(share) for share in _QUANTILES}, "quantile")
    meter.create_observable_gauge("wirebench.latency", [quantiles], unit="s")
    try:
        yield
    finally:
        provider.shutdown()
        logger.removeHandler(only_first)
