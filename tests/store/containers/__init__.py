"""What the containers are to their users: the same on every engine, and on a model of it."""
