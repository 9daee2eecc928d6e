"""Any program behind a link: what `wirebench lab` runs."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench.certificates import certificates
from bench.errors import LabFailedError, OutputError, UsageError
from bench.lab.account import in_words
from bench.lab.lab import Lab
from bench.lab.link import Link, parse_link
from bench.lab.relay import Reach
from bench.lab.topology import CLIENT, SERVER, SERVER_ADDRESS, two_ends
from bench.output import say, write_json
from bench.serverprocess import ServerProcess

OWN_SERVERS = (("http1", 80, "off"), ("http2", 443, "1.3"), ("http3", 443, "1.3"))
"""What serves at the far end if nothing else is asked for: protocol, port, TLS."""

_LISTEN = "0A"
"""The state of a listening socket in /proc/net/tcp (proc(5))."""

_START_TIMEOUT_S = 15.0
_END_TIMEOUT_S = 5.0
_POLL_S = 0.01


def spell_link(link: str | None, parts: Mapping[str, str | None]) -> Link:
    """The link of `--link`, with what `--rtt` and the like say of it. Raises UsageError for what is said twice."""
    words = [f"{key}={value}" for key, value in parts.items() if value is not None]
    if link is not None and words:
        given = {word.partition("=")[0].strip() for word in link.split(",")}
        for key, value in parts.items():
            if value is not None and key in given:
                raise UsageError(f"--{key}: --link says {key} too; leave out one of the two")
    return parse_link(",".join(([link] if link else []) + words) or "rtt=0s", "--link")


def parse_reach(text: str) -> list[Reach]:
    """A server on the host, like "8080" or "127.0.0.1:8080", whose connections and datagrams go through the link."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise UsageError(f"--reach: {text!r} is not a port, or an address and a port, like 127.0.0.1:8080")
    return [Reach(host or "127.0.0.1", int(port), kind) for kind in ("stream", "datagram")]


def run_behind(
    command: Sequence[str],
    link: Link,
    backend: str,
    kernel: Mapping[str, str],
    seed: int,
    server_command: str | None,
    reaches: Sequence[Reach],
    pcap: str | None,
    json_file: str | None,
) -> int:
    """Run a command at the client's end of a link and account for every packet. Gives the command's exit status, 130
    after Ctrl-C. Raises UsageError, UnsupportedError, OutputError, LabFailedError, ServerFailedError."""
    capture = Path(pcap) if pcap is not None else None
    if capture is not None:
        try:
            capture.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"--pcap: cannot write to {capture}: {error.strerror}") from None
    own_servers = () if server_command is not None or reaches else OWN_SERVERS
    lab = Lab(two_ends(link), seed, kernel, capture, None, reaches, backend)
    with lab, contextlib.ExitStack() as ends:
        if server_command is not None:
            ends.enter_context(_running(lab, server_command))
        for protocol, port, tls in own_servers:
            ends.enter_context(
                ServerProcess(protocol, host=SERVER_ADDRESS, port=port, tls=tls, within=lab.within(SERVER))
            )
        say(f"{link} between here and {SERVER_ADDRESS}{_what_serves(server_command, reaches)}")
        environment = {**os.environ, "WIREBENCH_SERVER": SERVER_ADDRESS}
        if own_servers:
            environment |= dict.fromkeys(("SSL_CERT_FILE", "CURL_CA_BUNDLE"), str(certificates().authority))
        status = _run([*lab.within(CLIENT), *command], environment)
    account = lab.account()
    if capture is not None:
        say(f"packets: {capture / 'client.pcap'} and {capture / 'server.pcap'}")
    record = {
        "kind": "wirebench-lab",
        "schema": 1,
        "link": str(link),
        "seed": seed,
        "command": list(command),
        "exit_status": status,
        "kernel": lab.kernel,
        "account": account,
    }
    for line in in_words(account, [(CLIENT, SERVER)]).splitlines():
        say(line)
    if json_file is not None:
        write_json(json_file, json.dumps(record, indent=1))
    return status


def _what_serves(server_command: str | None, reaches: Sequence[Reach]) -> str:
    if server_command is not None:
        return f", where {server_command} runs"
    if reaches:
        return ", which stands for " + ", ".join(sorted({f"{reach.host}:{reach.port}" for reach in reaches}))
    served = ", ".join(f"{protocol} on {port}" for protocol, port, _ in OWN_SERVERS)
    return f", where wirebench serves {served}"


def _run(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the user's command on the terminal, whose Ctrl-C reaches it too."""
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise LabFailedError(f"{command[0]} cannot be started: {error.strerror}") from None
    try:
        status = process.wait()
    except KeyboardInterrupt:
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(_END_TIMEOUT_S)
        if process.poll() is None:
            process.kill()
            process.wait()
        return 128 + signal.SIGINT
    return status if status >= 0 else 128 - status


@contextlib.contextmanager
def _running(lab: Lab, command: str) -> Iterator[None]:
    """A program at the far end, once it listens to something. Raises UsageError, LabFailedError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--server: {command!r} is not a command: {error}") from None
    if not words:
        raise UsageError("--server: the command is empty")
    # What it prints is no part of what the user's program prints.
    process = subprocess.Popen(
        [*lab.within(SERVER), *words], stdin=subprocess.DEVNULL, stdout=sys.stderr, process_group=0
    )
    try:
        until = time.monotonic() + _START_TIMEOUT_S
        while not _listens(process.pid, lab):
            if process.poll() is not None:
                how = f"ended with exit status {process.returncode} before it served"
                raise LabFailedError(f"--server: {command} {how}")
            if time.monotonic() > until:
                raise LabFailedError(f"--server: {command} listens to nothing after {_START_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)
        yield
    finally:
        # The group's id cannot have passed to another: the program has not been waited for, or ended just now.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _listens(pid: int, lab: Lab) -> bool:
    """Whether anybody listens in the namespace of a process, once that has entered the node's."""
    try:
        if Path(f"/proc/{pid}/ns/net").stat().st_ino != lab.inode(SERVER):
            return False
        tables = {
            name: Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii").splitlines()[1:]
            for name in ("tcp", "tcp6", "udp", "udp6")
            if Path(f"/proc/{pid}/net/{name}").exists()
        }
    except OSError:
        return False
    return any(name.startswith("udp") or line.split()[3] == _LISTEN for name, lines in tables.items() for line in lines)
