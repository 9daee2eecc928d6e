"""`wirebench lab`"""

from typing import Annotated

import typer

from bench.commands.options import Json, Kernel, Link, LinkBackend, Seed


def lab(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND…", help="What to run behind the link.")],
    rtt: Annotated[str | None, typer.Option(metavar="TIME", help="Round-trip time, like 40ms.")] = None,
    loss: Annotated[str | None, typer.Option(metavar="SHARE", help="Share of packets lost, like 1%.")] = None,
    rate: Annotated[str | None, typer.Option(metavar="RATE", help="Bits a second each way, like 20mbit.")] = None,
    jitter: Annotated[
        str | None, typer.Option(metavar="TIME", help="Spread of the delay of one way, like 2ms.")
    ] = None,
    link: Link = None,
    link_backend: LinkBackend = None,
    server: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="What serves at the far end, in the place of wirebench.")
    ] = None,
    reach: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[HOST:]PORT", help="A server that runs already, which the far end stands for; may be repeated."
        ),
    ] = None,
    kernel: Kernel = None,
    pcap: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Write client.pcap and server.pcap there, as each end saw it.")
    ] = None,
    seed: Seed = None,
    json_file: Json = None,
) -> None:
    """Run any program behind a link with a delay, loss or rate, and account for every packet.

    The program has a network of its own, in which 10.77.0.2 is the far end (also as $WIREBENCH_SERVER). There wirebench
    serves http1 on port 80, http2 with TLS on 443 and http3 on 443; or --server COMMAND does; or it stands for servers
    that run on this machine (--reach). Nothing else can be reached. For example:

    wirebench lab --rtt 40ms --loss 1% -- curl http://10.77.0.2/health

    wirebench lab --rtt 100ms --reach 8080 -- curl http://10.77.0.2:8080/

    Exit status: the program's own; 2 bad input; 3 the lab failed; 130 interrupted.
    """
    from bench.lab.kernel import parse_kernel
    from bench.lab.link import BACKENDS
    from bench.lab.session import parse_reach, run_behind, spell_link
    from bench.output import check_json
    from bench.registry import choose
    from bench.run import choose_seed

    wanted = spell_link(link, {"rtt": rtt, "loss": loss, "rate": rate, "jitter": jitter})
    parameters = dict(parse_kernel(kernel, "--kernel")) if kernel is not None else {}
    reaches = [each for text in reach or [] for each in parse_reach(text)]
    check_json(json_file)
    backend = choose(link_backend or "own", BACKENDS, "--link-backend")
    seed = choose_seed(seed)
    raise typer.Exit(run_behind(command, wanted, backend, parameters, seed, server, reaches, pcap, json_file))
