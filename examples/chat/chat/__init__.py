"""The chat application: rooms, their messages, and the consumer that carries them."""
