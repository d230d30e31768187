"""The server: objects, a store and locks, and what each connected process has of them."""
