"""CPython's own tests, unedited, with garrison's classes in the place of multiprocessing's.

::

    parts.py: which classes run together, and what is to stand in for them
    test_cpython.py --one process for each part and start method--> runner.py
        stand_in.install(): multiprocessing.Lock and its like are garrison's, constructions counted
        suite.py: CPython makes its test classes, whose mixins see what stands in
        unittest runs them -> report.json, read test by test on this side

Workers import `suite` as well, and nothing stands in there.
"""
