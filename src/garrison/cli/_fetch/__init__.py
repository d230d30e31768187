"""``garrison fetch``: the pages of a list of sites, by a pool of processes."""
