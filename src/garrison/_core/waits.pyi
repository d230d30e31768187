"""Who waits for what."""

def waits() -> list[tuple[int, int, int, int, float, int, int, str]]:
    """All waits of this process's family that have lasted for 100 ms."""
