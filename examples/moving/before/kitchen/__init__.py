"""A restaurant: what waiters order is on the kitchen's screen at once."""
