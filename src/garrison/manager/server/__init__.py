"""The server: objects, a store and locks, and the references of its clients."""
