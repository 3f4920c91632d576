"""Consumers that know a protocol: `websocket` and `http`."""
