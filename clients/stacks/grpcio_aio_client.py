"""grpcio's asyncio client (grpc.aio). It speaks TLS 1.2 and 1.3, and cannot be told to speak one only."""

from typing import ClassVar

import grpc

from bench.contract import Security
from bench.errors import ErrorKind
from clients.stacks.grpcio_calls import MAX_IN_FLIGHT, Call, channel_arguments, failure_of
from clients.stacks.library_session import close_soon
from clients.stacks.security import why_not
from clients.stacks.task_session import TaskSession

_FAILED = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)


class GrpcioAioClient(TaskSession):
    """One channel, which has one connection."""

    most_in_flight: ClassVar[int] = MAX_IN_FLIGHT
    _channel: grpc.aio.Channel | None = None

    async def open(self, host: str, port: int, security: Security | None) -> None:
        arguments = channel_arguments(host, port, self.authority, security)
        make = grpc.aio.insecure_channel if security is None else grpc.aio.secure_channel
        self._channel = channel = make(**arguments)
        self._call = Call(self.exchange, self.check_content)
        self._ask = self._call.on(channel)
        state = channel.get_state(try_to_connect=True)
        while state is not grpc.ChannelConnectivity.READY:
            if state in _FAILED:
                raise await why_not(host, port, security, "h2")
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)

    async def ask(self) -> ErrorKind | None:
        call = self._call
        try:
            if call.server_streams:
                replies = [reply async for reply in self._ask(call.argument())]
            else:
                replies = [await self._ask(call.argument())]
        except grpc.aio.AioRpcError as error:
            return failure_of(error.code())
        return call.judge(replies)

    def shut(self) -> None:
        if self._channel is not None:
            close_soon(self._channel.close())
