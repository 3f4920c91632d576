"""A minimal Django project that the tests run in: SQLite in a temporary file, sessions, auth."""
