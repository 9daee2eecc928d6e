"""A wirebench.toml: what it says, and the one line for each thing that it must not say."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench import servicefile, servicerequests
from bench.catalogue import SERVICE
from bench.contract import Exchange
from bench.errors import UsageError
from bench.mix import Checks, decode_mix, encode_mix
from bench.ownservice import OwnService

EXAMPLE = Path(__file__).parents[2] / "examples/service/wirebench.toml"
URL = '[service]\nurl = "http://127.0.0.1:8000"\n'
GET = '[[request]]\npath = "/"\n'


def read(folder: Path, text: str) -> OwnService:
    return servicefile.parse(text, folder / "wirebench.toml")


def exchanges(folder: Path, request: str, url: str = URL) -> tuple[Exchange, ...]:
    return read(folder, f"{url}[[request]]\n{request}").mix[0].exchanges


def test_the_example() -> None:
    own = servicefile.read(EXAMPLE)
    assert own.command is not None
    assert own.command.words[:2] == ("uvicorn", "app:app")
    assert [request.name for request in own.mix] == ["list", "read", "order", "report"]
    assert [len(request.exchanges) for request in own.mix] == [1, 4, 4, 1]
    target = own.target(4711)
    assert target.address.authority == "127.0.0.1:4711"
    scenario = own.scenario(target, {"load": "closed:4"})
    assert (str(scenario.load), scenario.pattern, scenario.duration_ns) == ("closed:4", "mix", 5_000_000_000)


def test_a_mix_survives_its_way_to_the_load_process() -> None:
    mix = servicefile.read(EXAMPLE).mix
    assert decode_mix(encode_mix(mix)) == mix


def test_every_key_is_explained() -> None:
    explained = {
        (table, key)
        for place in SERVICE
        for table, _, keys in [place.rpartition(".") if place.startswith("request.check") else place.partition(".")]
        for key in keys.split(", ")
    }
    known = {
        "service": servicefile.SERVICE_KEYS,
        "request": [key for key in servicerequests.REQUEST_KEYS if key != "check"],
        "request.check": servicerequests.CHECK_KEYS,
        "load": [*servicefile.LOAD_KEYS, "seed", "thresholds"],
    }
    assert explained == {(table, key) for table, keys in known.items() for key in keys}


# Requests


def test_columns_are_escaped_as_their_place_needs(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text('id,name\n"a/b c","say ""hi"""\nü,two\n')
    first, second = exchanges(
        tmp_path,
        'method = "PUT"\npath = "/x/{id}?q={name}"\nheaders = { X-Id = "{id}" }\n'
        'data = "d.csv"\njson = { n = "{name}" }\n',
    )
    assert first.path == "/x/a%2Fb%20c?q=say%20%22hi%22"
    assert first.fields == (("x-id", "a/b c"), ("content-type", "application/json"))
    assert json.loads(first.body) == {"n": 'say "hi"'}
    assert second.path == "/x/%C3%BC?q=two"


def test_a_text_body_takes_values_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("n\n5\n")
    (only,) = exchanges(tmp_path, 'path = "/"\ndata = "d.csv"\nbody = \'{"n": {n}, "other": {m}}\'\n')
    assert (only.method, only.body) == ("POST", b'{"n": 5, "other": {m}}')


@pytest.mark.parametrize("name", ["api.json", "api.yaml", "api.yml"])
def test_an_operation_of_openapi(tmp_path: Path, name: str) -> None:
    document = {
        "openapi": "3.1.0",
        "servers": [{"url": "https://example.com/v1/"}],
        "paths": {"/users/{id}": {"parameters": [], "delete": {"operationId": "drop"}, "get": {}}},
    }
    (tmp_path / name).write_text(json.dumps(document) if name == "api.json" else yaml.safe_dump(document))
    (tmp_path / "d.csv").write_text("id\n7\n")
    (only,) = exchanges(tmp_path, f'openapi = "{name}"\noperation = "drop"\ndata = "d.csv"\n')
    assert (only.method, only.path) == ("DELETE", "/v1/users/7")


def test_a_call_of_grpc(tmp_path: Path) -> None:
    (tmp_path / "shop.proto").write_text(
        'syntax = "proto3"; package shop; message Item { string name = 1; } '
        "service Shop { rpc Buy(Item) returns (Item); }"
    )
    (tmp_path / "d.csv").write_text("name\ntea\n")
    table = 'method = "shop.Shop/Buy"\nproto = "shop.proto"\ndata = "d.csv"\njson = { name = "{name}" }\n'
    (only,) = exchanges(tmp_path, table, '[service]\nurl = "grpc://127.0.0.1:1"\n')
    assert (only.path, only.body) == ("/shop.Shop/Buy", b"\x0a\x03tea")


# What is refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[service", "not valid TOML"),
        ("[servce]", "'servce' is unknown; allowed are service, request, load; did you mean service?"),
        (GET, "service: url is missing"),
        ('[service]\nurl = 5\n', "service: url: 5 must be written as text"),
        ('[service]\nurl = "ftp://x"\n', "requests are carried over http://"),
        ('[service]\nurl = "tcp://x:1"\n', "requests are carried over http://"),
        ('[service]\nurl = "http://x/path"\n', "requests say their paths themselves"),
        ('[service]\nurl = "http://x:{port}"\n' + GET, "{port} is for a service that is started here"),
        ('[service]\nurl = "http://x:99999"\n' + GET, "the port is not a number"),
        (URL + 'insecure = true\n' + GET, "--insecure: there is no TLS"),
        (URL + 'env = { A = "1" }\n' + GET, "service: env: means nothing without a command"),
        (URL + 'command = "a \'b"\n' + GET, "service: command: no closing quotation"),
        (URL + 'command = []\n' + GET, "service: command: is empty"),
        (URL + 'command = "a"\ncwd = "nowhere"\n' + GET, "service: cwd: there is no folder"),
        (URL + 'ready = "/x"\n' + GET, "service: ready: must be a table"),
        (URL + 'ready = { path = "x" }\n' + GET, "does not begin with /"),
        (URL + 'ready = { port = 0 }\n' + GET, "ready: port: 0 is not a whole number from 1"),
        (URL, "there is no request"),
        (URL + "[request]\n", "there is no request; write one or more tables [[request]]"),
        (URL + "[[request]]\n", "request 1: path is missing"),
        (URL + '[[request]]\npath = "x"\n', "request 1: path: 'x' is no path"),
        (URL + GET + GET, "request 2: another request is named 'GET /'"),
        (URL + GET + 'method = "CONNECT"\n', "'CONNECT' is no method that is carried"),
        (URL + GET + "weight = 0\n", "weight: 0 is not a number above 0"),
        (URL + GET + "weight = true\n", "weight: True is not a number"),
        (URL + GET + 'body = "a"\njson = 1\n', "body and json contradict each other"),
        (URL + GET + 'body-file = "nowhere"\n', "body-file: cannot read"),
        (URL + GET + "headers = { a = 1 }\n", "headers: a: 1 must be written as text"),
        (URL + GET + 'headers = { "a b" = "1" }\n', "is no name of a header field"),
        (URL + GET + 'headers = { a = "1\\r\\nb: 2" }\n', "is no value of a header field"),
        (URL + GET + 'headers = { Host = "x" }\n', "the client writes that itself"),
        (URL + GET + 'order = "random"\n', "order: means nothing without data"),
        (URL + GET + 'data = "nowhere.csv"\n', "data: cannot read"),
        (URL + GET + 'data = "empty.csv"\n', "has 0 rows under its head"),
        (URL + GET + 'data = "ragged.csv"\n', "line 5 has 1 cells, and the head 2"),
        (URL + '[[request]]\npath = "/{x}"\n', "needs a value for {x}"),
        (URL + '[[request]]\npath = "/{x}"\ndata = "d.csv"\n', "needs a value for {x}"),
        (URL + GET + 'operation = "x"\n', "operation: means nothing without openapi"),
        (URL + GET + 'openapi = "x.json"\n', "path: the operation says it"),
        (URL + '[[request]]\nopenapi = "api.yaml"\noperation = "x"\n', "api.yaml is not YAML: mapping values"),
        (URL + '[[request]]\nopenapi = "api.txt"\noperation = "x"\n', "api.txt is not JSON"),
        (URL + '[[request]]\nopenapi = "api.json"\noperation = "x"\n', "'x' is unknown; allowed are list"),
        (URL + '[[request]]\nopenapi = "deep.json"\noperation = "x"\n', "deep.json is not JSON: it is nested"),
        (URL + '[[request]]\nopenapi = "bomb.yaml"\noperation = "x"\n', "bomb.yaml is no document of OpenAPI 3"),
        (URL + '[[request]]\nopenapi = "loop.yaml"\noperation = "x"\n', "loop.yaml has no operation with an"),
        (URL + '[[request]]\nopenapi = "odd.yaml"\noperation = "y"\n', "'y' is unknown; allowed are x"),
        (URL + '[[request]]\nopenapi = "odd.yaml"\noperation = "x"\n', "the address of its first server is none"),
        (URL + '[[request]]\nopenapi = "bytes.json"\noperation = "x"\n', "bytes.json is not a text file in UTF-8"),
        (URL + GET + 'proto = "x"\n', "proto: is for requests over grpc://"),
        (URL + GET + "check.status = 99\n", "check: status: 99 is not a whole number from 200 to 599"),
        (URL + GET + "check.statuses = 200\n", "'statuses' is unknown"),
        (URL + GET + "check.headers = { a = false }\n", "check: headers: must be a table of texts"),
        (URL + GET + "check.json = 5\n", "check: json: must be a table"),
        (URL + GET + 'check.max-size = "5"\n', "is not a size"),
        (URL + GET + "[load]\nduration = 5\n", "load: duration: 5 must be written as text"),
        (URL + GET + '[load]\nduration = "5"\n', "'5' is not a duration"),
        (URL + GET + '[load]\nload = "lots"\n', "wirebench.toml: load: load: 'lots' is not a load"),
        (URL + GET + "[load]\nseed = -1\n", "load: seed: -1 is not a whole number"),
        (URL + GET + '[load]\nthresholds = "p99 < 1ms"\n', "thresholds: must be a list"),
        (URL + GET + '[load]\nthresholds = ["p99 of x < 1ms"]\n', "'x' is unknown; allowed are GET /"),
        (URL + GET + '[load]\nthresholds = ["p99 < 1ms", "p50 > 2ms"]\n', "contradict each other"),
        (URL + GET + '[load]\nload = "open:5/s"\nthresholds = ["rate > 6/s"]\n', "offers 5/s at most"),
        ('[service]\nurl = "ws://x"\n[[request]]\nmethod = "GET"\n', "messages over WebSocket have none"),
        ('[service]\nurl = "ws://x"\n[[request]]\n[[request]]\npath = "/b"\nname = "b"\n', "one path and one headers"),
        ('[service]\nurl = "ws://x"\n[[request]]\ncheck.status = 200\n', "check: status: messages over WebSocket"),
        ('[service]\nurl = "grpc://x:1"\n[[request]]\npath = "/"\n', "path: calls have a method"),
        ('[service]\nurl = "grpc://x:1"\n[[request]]\nmethod = "C"\n', "request 1: method: 'C' is no method"),
        ('[service]\nurl = "grpc://x:1"\n[[request]]\nmethod = "a.B/C"\nproto = "x"\n', "there is no file"),
        (
            '[service]\nurl = "grpc://x:1"\n[[request]]\nmethod = "S/Put"\nproto = "s.proto"\n',
            "request 1: method: S/Put takes a stream of messages",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "s.proto").write_text(
        'syntax = "proto3"; message A {} service S { rpc Put(stream A) returns (A); rpc Get(A) returns (stream A); }'
    )
    (tmp_path / "d.csv").write_text("id\n1\n")
    (tmp_path / "empty.csv").write_text("id\n")
    (tmp_path / "ragged.csv").write_text('a,b\n1,"2\n2"\n\n3\n')
    (tmp_path / "api.yaml").write_text("openapi: 3.1.0: 2\n")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    laughs = "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    (tmp_path / "bomb.yaml").write_text(f"a0: &a0 [lol]\n{laughs}openapi: *a11\n")
    (tmp_path / "loop.yaml").write_text("openapi: 3.0.0\npaths: &p\n  /x: *p\n  /y: { $ref: '#/paths/~1y' }\n")
    (tmp_path / "odd.yaml").write_text(
        "openapi: 3.0.0\nservers: [{url: 'http://[x'}]\n"
        "paths:\n  200: {get: {operationId: z}}\n  /: {get: {operationId: x}}\n"
    )
    (tmp_path / "bytes.json").write_bytes(b'{"openapi": "3.0.0\xff"}')
    (tmp_path / "api.txt").write_text("openapi: 3.1.0\n")
    operation = {"operationId": "list"}
    (tmp_path / "api.json").write_text(json.dumps({"openapi": "3.0.0", "paths": {"/": {"get": operation}}}))
    with pytest.raises(UsageError) as refused:
        read(tmp_path, text)
    message = str(refused.value)
    assert words in message
    assert message.startswith(str(tmp_path / "wirebench.toml"))
    assert "\n" not in message


def test_what_windows_writes(tmp_path: Path) -> None:
    """Lines that end with CRLF, after a byte order mark."""
    (tmp_path / "wirebench.toml").write_bytes((f"\ufeff{URL}{GET}" + 'data = "d.csv"\n').replace("\n", "\r\n").encode())
    (tmp_path / "d.csv").write_bytes("\ufeffid\r\n1\r\n".encode())
    assert servicefile.read(tmp_path / "wirebench.toml").mix[0].name == "GET /"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no such file; write one with wirebench init"):
        servicefile.read(tmp_path / "wirebench.toml")


# Checks


JSON = b'{"user": {"name": "ann", "admin": true, "tags": ["a", "b"]}}'


@pytest.mark.parametrize(
    ("checks", "answer", "wrong"),
    [
        (Checks(), (204, ()), None),
        (Checks(), (404, ()), "status 404, not 2xx or 3xx"),
        (Checks(statuses=(404, 410)), (404, ()), None),
        (Checks(statuses=(404, 410)), (200, ()), "status 200, not 404 or 410"),
        (Checks(fields=(("a", None),)), (200, [(b"a", b"x")]), None),
        (Checks(fields=(("a", "y"),)), (200, [(b"a", b"x")]), "header a is 'x', not 'y'"),
        (Checks(fields=(("a", "y"),)), (200, [(b"a", b"x"), (b"a", b"y")]), None),
        (Checks(fields=(("b", None),)), (200, [(b"a", b"x")]), "no header b"),
        (Checks(contains=("ann", "é")), (200, ()), "the body does not contain 'é'"),
        (Checks(json=(("user.name", "ann"), ("user.tags.1", "b"), ("user.tags", ["a", "b"]))), (200, ()), None),
        (Checks(json=(("user.name", "bob"),)), (200, ()), "the JSON has 'ann' at user.name, not 'bob'"),
        (Checks(json=(("user.admin", 1),)), (200, ()), "the JSON has True at user.admin, not 1"),
        (Checks(json=(("user.tags.2", "c"),)), (200, ()), "the JSON has no user.tags.2"),
        (Checks(max_bytes=10), (200, ()), f"a body of {len(JSON)} bytes, more than 10"),
    ],
)
def test_what_is_wrong_with_an_answer(checks: Checks, answer: tuple[int, Any], wrong: str | None) -> None:
    status, fields = answer
    found = checks.wrong(status, fields, len(JSON), JSON)
    assert (found.why if found else None) == wrong
    assert found is None or found.kind == ("status" if re.match("status", found.why) else "content")


def test_a_body_that_is_no_json() -> None:
    found = Checks(json=(("a", 1),)).wrong(200, (), 1, b"\xff")
    assert found is not None
    assert found.why == "the body is not JSON"
