"""What goes wrong in process pools elsewhere, each as a scenario of its own.

One run of one scenario::

    test or record -> harness.run(row, module, method)
                        new session, private TMPDIR, a token in the environment
                        -> child.py: watchdog, start method, row.run(Subject) -> report
                      no process with the token, no file left -> Outcome

A scenario returns if all went as it should, and raises `Hangs`, `Lost` or `Wrong` if not.
"""
