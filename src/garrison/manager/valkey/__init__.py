"""A manager whose containers and locks are on a Valkey or Redis server."""
