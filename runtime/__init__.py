"""What serves scopes: listeners, HTTP, WebSocket, lifespan, one actor per ASGI scope."""
