"""grpcio's client with threads of its own: calls as futures, which those threads complete.

It speaks TLS 1.2 and 1.3, and cannot be told to speak one only.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar

import grpc

from bench.contract import Security
from clients.stacks.grpcio_calls import MAX_IN_FLIGHT, Call, channel_arguments, failure_of
from clients.stacks.library_session import Handle, LibrarySession
from clients.stacks.security import why_not


class GrpcioClient(LibrarySession):
    """One channel, which has one connection."""

    most_in_flight: ClassVar[int] = MAX_IN_FLIGHT
    _channel: grpc.Channel | None = None

    async def open(self, host: str, port: int, security: Security | None) -> None:
        self._loop = asyncio.get_running_loop()
        arguments = channel_arguments(host, port, self.authority, security)
        self._threads = ThreadPoolExecutor(MAX_IN_FLIGHT, thread_name_prefix="grpcio")
        self._channel = channel = (grpc.insecure_channel if security is None else grpc.secure_channel)(**arguments)
        self._call = Call(self.exchange, self.check_content)
        self._ask = self._call.on(channel)
        connected: asyncio.Future[bool] = self._loop.create_future()

        def note(state: grpc.ChannelConnectivity) -> None:
            """Called on a thread of grpcio's."""
            if state in (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE):
                self._post(settle, state is grpc.ChannelConnectivity.READY)

        def settle(good: bool) -> None:
            if not connected.done():
                connected.set_result(good)

        channel.subscribe(note, try_to_connect=True)
        try:
            if not await connected:
                raise await why_not(host, port, security, "h2")
        finally:
            channel.unsubscribe(note)

    def start(self, exchange_id: int) -> Handle:
        call, ask = self._call, self._ask
        handle: Handle
        if call.server_streams:
            handle = ask(call.argument())
            self._threads.submit(self._collect, exchange_id, handle)
        else:
            future = handle = ask.future(call.argument())
            future.add_done_callback(partial(self._post, self._done, exchange_id))
        return handle

    def shut(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._threads.shutdown(wait=False)

    def _done(self, exchange_id: int, future: Any) -> None:
        code = future.code()
        self._finish(exchange_id, code, [future.result()] if code is grpc.StatusCode.OK else [])

    def _finish(self, exchange_id: int, code: grpc.StatusCode, replies: Sequence[Any]) -> None:
        try:
            failure = self._call.judge(replies) if code is grpc.StatusCode.OK else failure_of(code)
        except ConnectionResetError:
            self.close()
        else:
            self.over(exchange_id, failure)

    # On threads of grpcio's, and on those that wait for streams

    def _post(self, callback: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call back."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(callback, *arguments)

    def _collect(self, exchange_id: int, call: Any) -> None:
        replies: list[Any] = []
        with contextlib.suppress(grpc.RpcError):  # the call's code says so too
            replies.extend(call)
        self._post(self._finish, exchange_id, call.code(), replies)
