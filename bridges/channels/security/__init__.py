"""Checks that a connection passes before it reaches a consumer."""
