"""The embedded broker: a durable log over SQLite, whose publishes are committed in groups."""
