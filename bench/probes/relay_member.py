"""A member that talks over a websocket, to a server that passes on to all: `python -m bench.probes.relay_member`."""

import asyncio

from websockets.asyncio.client import ClientConnection, connect

from bench.probes.member import Member, live


class RelayMember(Member):
    """Asked to "join" {"url"}, it opens the websocket."""

    async def join(self, url: str) -> None:
        connection = await connect(url, compression=None, proxy=None)
        self.begin(self._read(connection))
        self.opened(lambda message: self.begin(connection.send(message)))

    async def _read(self, connection: ClientConnection) -> None:
        async for message in connection:
            assert isinstance(message, str)
            self.heard(message)


if __name__ == "__main__":
    asyncio.run(live(RelayMember))
