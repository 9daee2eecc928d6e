"""Which ways of opening connections make sense: resumed handshakes, early data, TCP Fast Open, one for each request."""

from bench import registry
from bench.contract import SAFE_METHODS
from bench.errors import UnsupportedError
from bench.load.fast_open import CLIENT, SERVER, why_not
from bench.protocols import CERTIFIED, PROTOCOLS
from bench.scenario import Scenario


def why_unsupported(scenario: Scenario) -> str | None:
    """Why connections cannot be opened as a scenario asks for; None if they can."""
    if scenario.pattern == "connect":
        if scenario.concurrency.in_flight != 1:
            return f"each connection has one request: write {scenario.concurrency.total}, not {scenario.concurrency}"
    elif scenario.handshake != "full" or scenario.fast_open == "on":
        return "connections are opened before the load, and nothing of that is measured; choose the pattern connect"
    return _handshake(scenario) or _fast_open(scenario)


def _handshake(scenario: Scenario) -> str | None:
    protocol, handshake = scenario.protocol, scenario.handshake
    if handshake == "full":
        return None
    if scenario.tls not in CERTIFIED:
        return f"without TLS there is no handshake that could be {handshake}; choose tls 1.3"
    if scenario.client != "lean":
        return f"the client {scenario.client} resumes no handshakes here; choose the client lean"
    if PROTOCOLS[protocol].transport_kind != "stream" and not PROTOCOLS[protocol].early_data:
        return f"handshakes of {protocol} are not resumed here"
    if handshake == "resumed":
        return _quic_tickets(scenario) if PROTOCOLS[protocol].transport_kind == "quic" else None
    if scenario.tls == "1.2":
        return "TLS 1.2 has no early data; choose tls 1.3"
    why = registry.no_early_data(protocol, scenario.execution, scenario.stack)
    if why is not None:
        return why
    if scenario.exchange.method not in SAFE_METHODS:
        return (
            f"{scenario.operation.opcode.word} is a {scenario.exchange.method}, which early data could do twice "
            "(RFC 8470); choose an operation that is a GET, like bytes or health"
        )
    if PROTOCOLS[protocol].transport_kind == "stream":
        from bench.wire.openssl import require_early_data

        try:
            require_early_data()
        except UnsupportedError as error:
            return str(error)
    return None


def _quic_tickets(scenario: Scenario) -> str | None:
    if scenario.stack != "lean":
        return f"the stack {scenario.stack} gives no tickets for {scenario.protocol} here; choose the stack lean"
    if scenario.execution in registry.SEVERAL_PROCESSES:
        return (
            f"tickets for {scenario.protocol} are taken where they were given, in one process; choose a model of one "
            "process, like single or threads"
        )
    return None


def _fast_open(scenario: Scenario) -> str | None:
    if scenario.fast_open == "off":
        return None
    if PROTOCOLS[scenario.protocol].transport_kind != "stream":
        return f"Fast Open is of TCP, and {scenario.protocol} runs over UDP"
    if not scenario.stack == scenario.client == "lean":
        return "TCP Fast Open is for both ends to set, and these are not ours; choose stack and client lean"
    if scenario.link is None and (why := why_not(CLIENT | SERVER)) is not None:
        return f"no TCP Fast Open: {why}"
    return None
