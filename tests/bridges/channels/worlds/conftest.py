"""The project of this folder is imported by servers, in processes of their own."""

collect_ignore = ["asgi.py", "consumers.py", "journal.py", "management", "settings.py", "views.py"]
