"""Programs on unusual systems: missing calls, other roots, closed descriptors, low limits."""
