"""An app with one table, and consumers that use it."""
