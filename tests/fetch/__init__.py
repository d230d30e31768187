"""`garrison fetch`, against a real server on this machine."""
