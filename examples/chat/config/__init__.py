"""The project: settings, urls, and what a server serves."""
