"""The todo list: what is there from the beginning, what is added, and what is refused."""

import json
import threading

import pytest

from bench.contract import SEEDED_TODOS, Todo, encode_todo, encode_todo_lines, encode_todos, seeded_todo
from servers.service_error import ServiceError
from servers.todos import MAX_CREATED, MAX_TEXT_CHARACTERS, Todos


def test_the_same_todos_are_there_in_every_server() -> None:
    todos = Todos().read(SEEDED_TODOS)
    assert todos == tuple(seeded_todo(number) for number in range(1, SEEDED_TODOS + 1))
    assert todos[:2] == (Todo(1, "todo number 1", False), Todo(2, "todo number 2", True))
    assert Todos().read(0) == ()
    assert Todos().read(3) == todos[:3]


def test_created_todos_come_after_them_with_ids_that_ascend() -> None:
    todos = Todos()
    texts = ["a", "ä\n", "x" * MAX_TEXT_CHARACTERS]
    created = [todos.create(text) for text in texts]
    assert created == [Todo(SEEDED_TODOS + 1 + at, text, False) for at, text in enumerate(texts)]
    assert todos.read(SEEDED_TODOS + 2)[-2:] == tuple(created[:2])
    assert todos.read(SEEDED_TODOS + 100)[SEEDED_TODOS:] == tuple(created)


def test_the_oldest_of_the_created_make_room() -> None:
    todos = Todos()
    for number in range(MAX_CREATED + 5):
        todos.create(str(number))
    read = todos.read(SEEDED_TODOS + MAX_CREATED)
    assert len(read) == SEEDED_TODOS + MAX_CREATED
    assert read[SEEDED_TODOS].text == "5"


def test_many_threads_create_each_todo_once() -> None:
    todos = Todos()
    ids: list[int] = []
    threads = [
        threading.Thread(target=lambda: ids.extend([todos.create("x").id for _ in range(500)])) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids) == list(range(SEEDED_TODOS + 1, SEEDED_TODOS + 4001))


@pytest.mark.parametrize("text", ["", "x" * (MAX_TEXT_CHARACTERS + 1), "\ud800"])
def test_a_text_that_is_refused(text: str) -> None:
    with pytest.raises(ServiceError) as raised:
        Todos().create(text)
    assert raised.value.status == 400


@pytest.mark.parametrize("limit", [-1, SEEDED_TODOS + MAX_CREATED + 1])
def test_a_limit_that_is_refused(limit: int) -> None:
    with pytest.raises(ServiceError) as raised:
        Todos().read(limit)
    assert raised.value.status == 400


def test_json() -> None:
    todos = [Todo(1, 'ä "\n', True), Todo(2, "", False)]
    as_objects = [{"id": 1, "text": 'ä "\n', "done": True}, {"id": 2, "text": "", "done": False}]
    assert json.loads(encode_todo(todos[0])) == as_objects[0]
    assert json.loads(encode_todos(todos)) == as_objects
    lines = encode_todo_lines(todos)
    assert [json.loads(line) for line in lines.splitlines()] == as_objects
    assert lines.endswith(b"}\n")
    assert (encode_todos([]), encode_todo_lines([])) == (b"[]", b"")
