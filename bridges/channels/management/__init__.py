"""Django's place for an application's commands."""
