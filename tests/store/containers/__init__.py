"""What the containers are to their users: the same on every backend, and on a model of it."""
