"""Which reader a stream takes, by how its client begins."""

from bench.lab.http_streams import METHOD, PREFACE, REQUEST, Http1Reader, Http2Reader
from bench.lab.packets import Way
from bench.lab.streams import Arrival, DataReader, StreamReader
from bench.lab.tls_stream import TlsReader


def reader_of(begin: bytes, client: Way, arrival: Arrival) -> StreamReader | None:
    """A reader for a stream of which the client begins so; None if it takes more bytes to tell."""
    if begin[:2] == b"\x16\x03":
        return TlsReader(client, arrival)
    if begin.startswith(PREFACE):
        return Http2Reader()
    if REQUEST.match(begin):
        return Http1Reader(client)
    if PREFACE.startswith(begin) or begin == b"\x16" or METHOD.fullmatch(begin):
        return None
    return DataReader()
