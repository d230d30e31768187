"""CPython's tests that are not put to garrison, each with the reason.

Keys are patterns for ``SUITE.CLASS.test``, where the suite is a start method or a module of tests.
A test stands here only if it asks for something that garrison does better on purpose; each has a
line in `docs/differences.md`.
"""

from __future__ import annotations

EXCLUDED: dict[str, str] = {
    "*.WithProcessesTestQueue.test_queue_feeder_donot_stop_onexc": "asks that put() print and "
    "drop what cannot be pickled; here put() raises",
    "*.WithManagerTestContainers.test_dict_proxy_nested": "asks that a list inside of a "
    "shared dict be a copy, so that what is written into it is lost; here it is shared",
    "*.WithManagerTestContainers.test_dict_iter": "asks that a walk over a dict fail when the "
    "dict has changed; here it goes on over the state in which it began",
    "*.TestResourceTracker.test_resource_tracker_sigkill": "asks for the warning of a "
    "semaphore that finds the resource tracker dead; semaphores here have no name to be leaked",
    "*.WithThreadsTestPool.test_terminate": "ends a pool whose threads sleep for minutes: threads "
    "cannot be ended, the standard library waits for them too, and later CPythons skip the test",
    "*.test_python_finalization_error": "has the start of a queue's thread fail, and asks that the "
    "executor be broken; queues here have no thread, and the executor works",
    "*._TestImportStar.test_import": "takes the file of a Windows module off the list of the "
    "package's files, and garrison has none; tests/kinds compares every other module",
    "*.TestStartMethod.test_mixed_startmethod": "asks that a lock of one start method "
    "be refused by a process of another; here it works",
    # --- garrison.Executor ---
    "executor:*.test_killed_child": "asks that the end of one worker break the executor; here it "
    "costs the future of its call",
    "executor:*.test_broken_process_pool_traceback": "asks that the end of one worker fail all "
    "futures; here it costs the future of its call",
    "executor:*.test_e*_at_task_unpickle": "asks that arguments which cannot be unpickled "
    "break the executor; here that future has the error",
    "executor:*.test_idle_process_reuse_*": "asks that workers start one by one; here all start "
    "with the first call",
    "executor:*.test_processes_terminate": "asks the same",
    "executor:*.test_cancel_futures": "asks that some calls end which no worker had begun; "
    "here all of them are cancelled, which the test meets if workers start slowly",
    "executor:*.test_shutdown_no_wait_max_tasks_gh119592": "asks that calls fail whose executor "
    "was collected; here they run",
    "executor:*.test_gc_during_max_tasks_worker_exit_gh152967": "asks the same",
    "executor:*.test_force_shutdown_during_max_tasks_worker_exit": "sets a field of the standard "
    "executor's and asks what its thread makes of it",
    "executor:*.test_failed_worker_replacement_breaks_pool": "replaces a function inside of the "
    "standard executor, which is not used",
}
