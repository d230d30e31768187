"""What garrison's pool promises beyond CPython's own tests, topic by topic.

Functions that workers import are in `tasks`; processes meet at a `tasks.Door`, never by the clock.
"""
