"""The ways in from other worlds: asyncio, threads, Django, Channels. Each a package of its own."""
