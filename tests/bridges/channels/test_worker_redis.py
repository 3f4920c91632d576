"""A worker on channels_redis: a layer of others, whose messages the worker must not lose."""

import uuid
from typing import Any

import pytest
import trio
from channels_redis.core import RedisChannelLayer
from tests.bridges.channels.working import Asyncio, Jobs, Sync, job, recording, working

from greenroom.bridges.asyncio import open_hosted_loop
from greenroom.bridges.channels.layers import channel_layers
from greenroom.bridges.channels.worker import Worker


@pytest.fixture
def redis_layer(valkey_url: str) -> Any:
    # Without a timeout: to wait for a message is no failure.
    host = {"address": valkey_url, "socket_timeout": None}
    layer = RedisChannelLayer(hosts=[host], prefix=uuid.uuid4().hex)
    channel_layers.set("default", layer)
    return layer


@pytest.mark.parametrize("base", [Asyncio, Sync])
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_each_job_is_handled_once_though_some_of_them_fail(
    base: Any, concurrency: int, redis_layer: Any
) -> None:
    jobs = Jobs()
    worker = Worker(recording(base, jobs).as_asgi(), ["jobs"], redis_layer, concurrency=concurrency)
    with trio.fail_after(20):
        async with open_hosted_loop() as loop:
            for number in range(40):
                message = job(number, "run" if number % 7 else "fail")
                await loop.run_asyncio(redis_layer.send, "jobs", message)
            async with working(worker):
                await jobs.until_ended(40)
            await loop.run_asyncio(redis_layer.close_pools)
    begun = [number for number, _ in jobs.begun]
    assert sorted(begun) == sorted(jobs.ended) == list(range(40))
    if concurrency == 1:
        assert begun == list(range(40))
