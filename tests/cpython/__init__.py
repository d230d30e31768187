"""CPython's own pool tests, unedited, with garrison's Pool in the place of multiprocessing's.

::

    test_cpython_pool.py --one process for each start method--> runner.py
        stand_in.install(): multiprocessing.Pool and its like are garrison's, constructions counted
        suite.py: CPython makes its test classes, whose mixins see what stands in
        unittest runs them -> report.json, read test by test on this side

Workers import `suite` as well, and nothing stands in there.
"""
