"""A list of todos over gRPC, as one message or as a stream of them: when the first is there, and when all are."""

import time
from statistics import median

import grpc

from bench.serverprocess import ServerProcess
from bench.wire import wirebench_pb2 as pb

_REPEATS = 15


def measure(how: str, todos: int = 1000) -> dict[str, float]:
    """grpcio's own client against its own server."""
    with (
        ServerProcess("grpc", stack="grpcio") as server,
        grpc.insecure_channel(f"{server.host}:{server.port}") as channel,
    ):
        request = pb.ReadTodosRequest(limit=todos)
        serialize = pb.ReadTodosRequest.SerializeToString
        if how == "unary":
            unary = channel.unary_unary("/wirebench.v1.Todos/ReadTodos", serialize, pb.ReadTodosReply.FromString)
        else:
            stream = channel.unary_stream("/wirebench.v1.Todos/ReadTodosStream", serialize, pb.Todo.FromString)
        first, every = [], []
        for _ in range(_REPEATS):
            begun_ns = time.monotonic_ns()
            if how == "unary":
                count = len(unary(request).todos)
                first.append(time.monotonic_ns() - begun_ns)
            else:
                count = 0
                for _todo in stream(request):
                    if not count:
                        first.append(time.monotonic_ns() - begun_ns)
                    count += 1
            every.append(time.monotonic_ns() - begun_ns)
            if count != todos:
                raise AssertionError(f"{count} todos came, not {todos}")
    return {"first_item_ns": median(first), "all_items_ns": median(every)}
