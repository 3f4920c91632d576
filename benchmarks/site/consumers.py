"""The same consumers for each peer; only the package they come from differs."""

import importlib
import os

websocket = importlib.import_module(os.environ["BENCHMARK_CONSUMERS"] + ".generic.websocket")


class AsyncEcho(websocket.AsyncWebsocketConsumer):
    async def receive(self, text_data=None, bytes_data=None):
        await self.send(text_data=text_data)


class SyncEcho(websocket.WebsocketConsumer):
    def receive(self, text_data=None, bytes_data=None):
        self.send(text_data=text_data)
