"""The application of this folder is imported by servers, in processes of their own."""

collect_ignore = ["app.py"]
