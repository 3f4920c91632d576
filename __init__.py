"""Greenroom: supervised trio actors for Django and ASGI."""
