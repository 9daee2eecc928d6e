"""Brokers as their users see them: one file for each, all of them `bench.wire.brokers.Broker`."""
