"""Read what the block of a `with` statement cost this process."""

import gc
import time
from typing import Self


class CPUTime:
    """Microseconds of CPU time, user and system and of all threads, for one of `operations`."""

    def __init__(self, operations: int) -> None:
        self.operations = operations
        self.each = 0.0

    def __enter__(self) -> Self:
        self._before = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.each = (time.process_time() - self._before) / self.operations * 1e6


class Memory:
    """Kilobytes, of 1000 bytes, that only this process holds, for one of `things`."""

    def __init__(self, things: int) -> None:
        self.things = things
        self.each = 0.0

    def __enter__(self) -> Self:
        self._before = self._held()
        return self

    def __exit__(self, *_: object) -> None:
        self.each = (self._held() - self._before) / self.things / 1000

    def _held(self) -> int:
        import psutil  # only here: CPU time is told without it

        gc.collect()
        held: int = psutil.Process().memory_full_info().uss
        return held
