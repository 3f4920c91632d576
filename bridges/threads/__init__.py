"""Blocking code on leased worker threads, in trio and in asyncio programs.

Stands on `bridges.asyncio`, whose hosted loop is where `async_to_sync` leads from a
thread that a trio task waits for.

>>> import threading, trio
>>> trio.run(run_sync, threading.current_thread).name.startswith("greenroom-")
True
"""

from ._default import default_pool as default_pool
from ._executor import ExecutorThreads as ExecutorThreads
from ._executor import watched_loop as watched_loop
from ._home import Home as Home
from ._home import HomeClosed as HomeClosed
from ._lease import Lease as Lease
from ._pool import NoThreadToPin as NoThreadToPin
from ._pool import ThreadPool as ThreadPool
from ._pool import call_before_threads_end as call_before_threads_end
from ._pool import threads_at_work as threads_at_work
from ._run import call_home as call_home
from ._run import check_cancelled as check_cancelled
from ._run import run_sync as run_sync
from ._run import tell_home as tell_home

__all__ = [
    "ExecutorThreads",
    "Home",
    "HomeClosed",
    "Lease",
    "NoThreadToPin",
    "ThreadPool",
    "call_before_threads_end",
    "call_home",
    "check_cancelled",
    "default_pool",
    "run_sync",
    "tell_home",
    "threads_at_work",
    "watched_loop",
]
