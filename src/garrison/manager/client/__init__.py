"""The clients: proxies of objects, and the store and the locks of a server elsewhere."""
