from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf.internal import containers as _containers

DESCRIPTOR: _descriptor.FileDescriptor

class HealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthReply(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: str
    def __init__(self, status: str | None = ...) -> None: ...

class EchoRequest(_message.Message):
    __slots__ = ("payload",)
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    def __init__(self, payload: bytes | None = ...) -> None: ...

class EchoReply(_message.Message):
    __slots__ = ("payload",)
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    def __init__(self, payload: bytes | None = ...) -> None: ...

class BytesRequest(_message.Message):
    __slots__ = ("chunk", "n")
    N_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    n: int
    chunk: int
    def __init__(self, n: int | None = ..., chunk: int | None = ...) -> None: ...

class BytesReply(_message.Message):
    __slots__ = ("payload",)
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    def __init__(self, payload: bytes | None = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: bytes | None = ...) -> None: ...

class UploadReply(_message.Message):
    __slots__ = ("length", "sha256")
    LENGTH_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    length: int
    sha256: bytes
    def __init__(self, length: int | None = ..., sha256: bytes | None = ...) -> None: ...

class WorkRequest(_message.Message):
    __slots__ = ("cpu_us", "wait_ms")
    CPU_US_FIELD_NUMBER: _ClassVar[int]
    WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    cpu_us: int
    wait_ms: int
    def __init__(self, cpu_us: int | None = ..., wait_ms: int | None = ...) -> None: ...

class WorkReply(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: str
    def __init__(self, status: str | None = ...) -> None: ...

class PublishRequest(_message.Message):
    __slots__ = ("data", "topic")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    topic: str
    data: bytes
    def __init__(self, topic: str | None = ..., data: bytes | None = ...) -> None: ...

class PublishReply(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: int
    def __init__(self, id: int | None = ...) -> None: ...

class SubscribeRequest(_message.Message):
    __slots__ = ("after", "topic")
    TOPIC_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    topic: str
    after: int
    def __init__(self, topic: str | None = ..., after: int | None = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("data", "id")
    ID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    id: int
    data: bytes
    def __init__(self, id: int | None = ..., data: bytes | None = ...) -> None: ...

class CreateTodoRequest(_message.Message):
    __slots__ = ("text",)
    TEXT_FIELD_NUMBER: _ClassVar[int]
    text: str
    def __init__(self, text: str | None = ...) -> None: ...

class Todo(_message.Message):
    __slots__ = ("done", "id", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    id: int
    text: str
    done: bool
    def __init__(self, id: int | None = ..., text: str | None = ..., done: bool | None = ...) -> None: ...

class ReadTodosRequest(_message.Message):
    __slots__ = ("limit",)
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    limit: int
    def __init__(self, limit: int | None = ...) -> None: ...

class ReadTodosReply(_message.Message):
    __slots__ = ("todos",)
    TODOS_FIELD_NUMBER: _ClassVar[int]
    todos: _containers.RepeatedCompositeFieldContainer[Todo]
    def __init__(self, todos: _Iterable[Todo | _Mapping] | None = ...) -> None: ...
