"""Alarms: in order, taken back, and hastened."""

import gc
import json
import threading
import time
import weakref
from queue import SimpleQueue

from servers import polls
from servers.jobs import Jobs
from servers.topics import Topics
from servers.waiting import Alarms

SOON_S = 0.01
LATER_S = 3600.0


def test_alarms_come_in_the_order_of_their_times() -> None:
    alarms, came = Alarms(), SimpleQueue[int]()
    begun = time.monotonic()
    for number in (3, 1, 2):
        alarms.at(begun + number * SOON_S, lambda number=number: came.put(number))  # type: ignore[misc]
    assert [came.get(timeout=20) for _ in range(3)] == [1, 2, 3]


def test_an_alarm_that_was_taken_back_does_not_come() -> None:
    alarms, came = Alarms(), SimpleQueue[str]()
    begun = time.monotonic()
    first = alarms.at(begun + SOON_S, lambda: came.put("first"))
    alarms.at(begun + 2 * SOON_S, lambda: came.put("second"))
    first.cancel()
    first.cancel()
    assert came.get(timeout=20) == "second"
    alarms.at(begun + LATER_S, lambda: came.put("third"))
    alarms.at(begun + LATER_S, lambda: came.put("fourth")).cancel()
    alarms.hasten()
    assert came.get(timeout=20) == "third"
    assert came.empty()


def test_alarms_that_were_taken_back_take_no_room() -> None:
    alarms = Alarms()
    due_s = time.monotonic() + LATER_S
    kept = [alarms.at(due_s, lambda: None) for _ in range(100)]
    for _ in range(10_000):
        alarms.at(due_s, lambda: None).cancel()
    assert len(alarms._heap) < 4 * len(kept)


def test_an_answered_poll_leaves_nothing_behind() -> None:
    topics, holds = Topics(), Alarms()
    answers = SimpleQueue[bytes]()

    class Client:
        def reply(self, answer: bytes) -> None:
            answers.put(answer)

    client = Client()
    polls.defer(topics.topic("t"), 0, LATER_S, holds, b"", client.reply)
    topics.topic("t").publish(b"event")
    assert json.loads(answers.get(timeout=20))["last"] == 1
    gone = weakref.ref(client)
    del client
    gc.collect()
    assert gone() is None


def test_a_job_that_ended_holds_no_answer_back() -> None:
    done, after = threading.Event(), threading.Event()
    alarms, holds = Alarms(), Alarms()
    jobs = Jobs(Topics(), alarms, holds)
    jobs.submit(SOON_S, 1)
    jobs.await_end(1, LATER_S, lambda _: done.set())
    assert done.wait(20)
    alarms.at(0, after.set)  # on the thread that has answered
    assert after.wait(20)
    assert len(holds) == 0
