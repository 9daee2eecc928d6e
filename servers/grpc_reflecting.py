"""Server reflection (reflection.proto in grpc/grpc): tells clients what services and messages there are.

Versions 1 and 1alpha are one protocol under two names; the generated code is the one of 1alpha, which every version of
grpcio-reflection has, and is imported with the first call.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.message import DecodeError

from bench.wire.grpc_messages import Status, StatusError

PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")


class Reflection:
    """Answers for the services of the given names, and all that their messages are made of."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = services

    def reply(self, message: bytes) -> bytes:
        """The answer to a ServerReflectionRequest. Raises StatusError."""
        pb = _generated()
        try:
            request = pb.ServerReflectionRequest.FromString(message)
        except DecodeError:
            raise StatusError(Status.INVALID_ARGUMENT, "the message is no ServerReflectionRequest") from None
        response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        pool = _pool()
        try:
            match request.WhichOneof("message_request"):
                case "list_services":
                    response.list_services_response.service.extend(
                        pb.ServiceResponse(name=name) for name in self._services
                    )
                case "file_by_filename":
                    self._add_file(response, pool.FindFileByName(request.file_by_filename))
                case "file_containing_symbol":
                    self._add_file(response, pool.FindFileContainingSymbol(request.file_containing_symbol))
                case "file_containing_extension":
                    raise KeyError  # there are none: proto3 has no extensions of messages
                case "all_extension_numbers_of_type":
                    name = request.all_extension_numbers_of_type
                    pool.FindMessageTypeByName(name)
                    response.all_extension_numbers_response.base_type_name = name
                case _:
                    response.error_response.error_code = Status.INVALID_ARGUMENT
                    response.error_response.error_message = "nothing is asked for"
        except KeyError:
            response.error_response.error_code = Status.NOT_FOUND
            response.error_response.error_message = "there is no such thing"
        return bytes(response.SerializeToString())

    def _add_file(self, response: Any, file: Any) -> None:
        response.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)


@cache
def _generated() -> Any:
    from grpc_reflection.v1alpha import reflection_pb2

    return reflection_pb2


@cache
def _pool() -> Any:
    """What can be asked for: our own services, and reflection itself under both names."""
    from bench.wire import wirebench_pb2

    alpha = descriptor_pb2.FileDescriptorProto.FromString(_generated().DESCRIPTOR.serialized_pb)
    v1 = text_format.Parse(text_format.MessageToString(alpha).replace("v1alpha", "v1"), type(alpha)())
    pool = descriptor_pool.DescriptorPool()
    for file in (descriptor_pb2.FileDescriptorProto.FromString(wirebench_pb2.DESCRIPTOR.serialized_pb), alpha, v1):
        pool.Add(file)
    return pool
