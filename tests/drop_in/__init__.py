"""garrison in the place of `multiprocessing`: modules, contexts, classes and programs."""
