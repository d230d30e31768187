"""One class for each kind of container; programs get them from a manager, as `manager.dict()`."""
