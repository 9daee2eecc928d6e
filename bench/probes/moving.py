"""A download whose client gets another address in the middle of it (RFC 9000, section 9)."""

import time

from bench.contract import Opcode
from bench.errors import LabFailedError
from bench.lab.lab import Lab
from bench.lab.link import parse_link
from bench.lab.topology import CLIENT, SERVER, two_ends
from bench.loadprocess import LoadProcesses, merge
from bench.placement import Placement
from bench.scenario import Operation, Scenario
from bench.schedule import Concurrency, parse_load
from bench.serverprocess import ServerProcess
from bench.trial import load_specs

_SIZE_BYTES = 1_000_000
_LINK = parse_link("rtt=20ms,rate=20mbit,queue=100ms", "link")
_NEW_ADDRESS = "10.77.0.9/24"
_WAIT_S = 30.0
_S = 1_000_000_000


def measure(protocol: str) -> dict[str, float]:
    """Whether the download ends as it should; over TCP it is given up after 2.5 s. Raises UnsupportedError."""
    scenario = Scenario(
        protocol,
        parse_load("open:1/s", "load"),
        operation=Operation(Opcode.BYTES),
        connections=Concurrency(1),
        payload_bytes=_SIZE_BYTES,
        tls="1.3",
        warmup_ns=0,
        duration_ns=_S,
        timeout_ns=5 * _S // 2,
    )
    with Lab(two_ends(_LINK)) as lab:
        host = lab.topology.address(SERVER)
        with (
            ServerProcess(protocol, within=lab.within(SERVER), tls="1.3", host=host) as server,
            LoadProcesses(1, lambda _progress: None, lab.within(CLIENT)) as load,
        ):
            load.connect(load_specs(scenario, host, server.port, 0, 1, Placement((), ())))
            load.release()
            _wait_for(lab, _received_bytes(lab) + _SIZE_BYTES // 2)
            lab.readdress(CLIENT, _NEW_ADDRESS)
            result = merge(load.results())
            load.leave()
    return {"completed_share": result["completed"] / (result["completed"] + sum(result["errors"].values()))}


def _received_bytes(lab: Lab) -> int:
    return int(lab.account()["spans"][-1]["down"]["delivered_bytes"])


def _wait_for(lab: Lab, received_bytes: int) -> None:
    until_s = time.monotonic() + _WAIT_S
    while _received_bytes(lab) < received_bytes:
        if time.monotonic() > until_s:
            raise LabFailedError(f"the download does not come half of its way in {_WAIT_S:g} s")
