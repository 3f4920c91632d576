"""What happens in a served project, written down where a test can read it, line by line."""

import json
import os

_journal = os.open(os.environ["WORLD_JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(*words: object) -> None:
    """Write one line, whole, from whatever thread or process."""
    os.write(_journal, json.dumps(words).encode() + b"\n")
