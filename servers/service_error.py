"""How the service refuses."""


class ServiceError(Exception):
    """The service refuses a request. `status` is an HTTP status code; other protocols carry the same number."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
