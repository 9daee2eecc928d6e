"""What Locust takes for a user: it stands for the engine of a worker, which loads the server beside Locust."""

from gevent.event import Event
from locust import User, task


class Engine(User):
    """One for each worker; Locust's own users would offer a fortieth of what an engine does."""

    @task
    def load(self) -> None:
        """Rest until Locust ends it."""
        Event().wait()
