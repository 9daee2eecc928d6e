"""Clients of libraries in which an exchange is a coroutine, and so a task."""

import asyncio
from abc import abstractmethod

from bench.errors import ErrorKind, ProtocolError
from clients.stacks.library_session import Handle, LibrarySession


class TaskSession(LibrarySession):
    """One connection, with a task for each exchange in flight."""

    @abstractmethod
    async def ask(self) -> ErrorKind | None:
        """One exchange; gives how it has failed, if it has. Raises OSError if the connection is lost, and ProtocolError
        if it is of no further use."""

    def start(self, exchange_id: int) -> Handle:
        return asyncio.get_running_loop().create_task(self._run(exchange_id))

    async def _run(self, exchange_id: int) -> None:
        try:
            failure = await self.ask()
        except OSError:
            self.close()
        except ProtocolError:
            self.over(exchange_id, "protocol")
            self.close()
        else:
            self.over(exchange_id, failure)
