"""Who waits for what."""

def waits() -> list[tuple[int, int, int, int, float, int, int, str]]:
    """All waits of processes that share memory with this one that have lasted for 100 ms."""
