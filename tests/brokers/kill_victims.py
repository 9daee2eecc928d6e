"""A publisher and a reader as processes that can be killed at any time: `kill_victims.py publish|read ADDRESS NAME
FOLDER`.

Each writes down what it does as it does it, one line a message: `sent` before a publish and `confirmed` after it,
`read` before an acknowledgement. They go on with a broker that is killed and comes back.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.wire.brokers import Broker, BrokerError
from clients.brokers.embedded import connect

TOPIC, SUBSCRIPTION = "t", "one"
_BATCH = 20


class Notes:
    """A file that has every line that was written, also when the writer is killed."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, lines: Sequence[bytes]) -> None:
        os.write(self._fd, b"".join(line + b"\n" for line in lines))


async def publish(user: Broker, name: str, folder: Path, numbers: list[int]) -> None:
    """Batches without end; `numbers` holds the next one."""
    sent, confirmed = Notes(folder / "sent"), Notes(folder / "confirmed")
    publisher = await user.publisher(TOPIC)
    while True:
        first = numbers[0]
        numbers[0] += _BATCH
        bodies = [b"%s-%d" % (name.encode(), number) for number in range(first, numbers[0])]
        sent.write(bodies)
        await publisher.publish(bodies)
        confirmed.write(bodies)


async def read(user: Broker, _name: str, folder: Path, _numbers: list[int]) -> None:
    """Whatever comes."""
    notes = Notes(folder / "read")
    reader = await user.reader(TOPIC, SUBSCRIPTION, 100, "after")
    while True:
        messages = await reader.receive()
        notes.write([message.body for message in messages])
        await reader.ack(messages)


async def main(role: str, address: str, name: str, folder: Path) -> None:
    numbers = [0]
    while True:
        try:
            await {"publish": publish, "read": read}[role](await connect(address), name, folder, numbers)
        except BrokerError:
            await asyncio.sleep(0.01)  # it is being killed and started again


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])))
