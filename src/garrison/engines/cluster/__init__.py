"""Pools over several machines: batches of tasks for nodes, and a local pool on each of them.

::

    Pool ─ ClusterBackend ─ Scheduler          (driver)
              │ give(batch), collect()
        Cluster, Node                          (an adapter: Ray, Dask, an executor)
              │
           Agent ─ local pool of processes     (node)

`_contract` is what an adapter implements; all else is the same for each of them.
"""
