"""Where log records go while something is measured."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def logging_to(handler: logging.Handler) -> Iterator[None]:
    """Hand the records of warnings and worse to `handler`, as a program that is set up does."""
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()


@contextmanager
def logging_off() -> Iterator[None]:
    """Make no records at all."""
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
