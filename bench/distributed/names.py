"""What both Locust processes call things in Locust's messages."""

MESSAGE = "wirebench"
"""The type of our messages."""

CLOCK = "wirebench-clock"
"""The type of the questions and answers about clocks."""

REPORT = "wirebench"
"""The key of ours in Locust's reports."""
