//! Tasks that are watched together as Python has them: which have ended, and a wait for the next.

use super::parent::{Parent, PyTaskHandle};
use crate::tasks::parent::ParentHandle;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A task, and what Python has for it.
type Watched = (Py<PyTaskHandle>, Py<PyAny>);

/// RunningTasks(parent, tasks=[]): tasks that are watched together.
///
/// The state words of the cells are all that is looked at, so there is nothing that a process which
/// is killed could leave behind. They lie in the cache until a worker writes one.
#[pyclass(frozen, module = "garrison._core")]
pub struct RunningTasks {
    parent: Arc<ParentHandle>,
    tasks: Mutex<Vec<Watched>>,
    /// Threads in `wait`, which look through the tasks without the GIL; changed with it.
    waiting: AtomicUsize,
}

impl RunningTasks {
    /// Never locked while code of Python may run: threads look through the tasks without the GIL.
    fn tasks(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.tasks.lock().expect("never poisoned")
    }

    fn first_ended(&self) -> Option<usize> {
        self.tasks().iter().position(|(task, _)| task.get().inner.ended())
    }
}

#[pymethods]
impl RunningTasks {
    #[new]
    #[pyo3(signature = (parent, tasks = Vec::new()))]
    fn new(py: Python<'_>, parent: &Parent, tasks: Vec<Py<PyTaskHandle>>) -> Self {
        let tasks = tasks.into_iter().map(|task| (task, py.None())).collect();
        let waiting = AtomicUsize::new(0);
        Self { parent: parent.inner.clone(), tasks: Mutex::new(tasks), waiting }
    }

    /// Watch a task until it is collected; `value` is what `collect` gives for it.
    fn add(&self, task: Py<PyTaskHandle>, value: Py<PyAny>) {
        self.tasks().push((task, value));
    }

    /// Tasks that were not collected.
    fn __len__(&self) -> usize {
        self.tasks().len()
    }

    /// Move the values of the tasks that have ended to the end of `ended`, a list or a deque, in the
    /// order in which they ended. Whether there were any.
    ///
    /// An interrupt comes before it or after it.
    fn collect(&self, py: Python<'_>, ended: &Bound<'_, PyAny>) -> PyResult<bool> {
        let (mut is_over, mut found) = (Vec::new(), Vec::new());
        for (task, value) in self.tasks().iter() {
            is_over.push(task.get().inner.ended());
            if is_over.last() == Some(&true) {
                found.push((task.get().inner.ended_at(), value.clone_ref(py)));
            }
        }
        if found.is_empty() {
            return Ok(false);
        }
        found.sort_by_key(|(ended_at, _)| *ended_at);
        for (_, value) in found {
            ended.call_method1("append", (value,))?;
        }
        // As they were: no other thread has had the GIL meanwhile.
        let mut tasks = self.tasks();
        let mut is_over = is_over.into_iter();
        let (gone, running): (Vec<_>, _) =
            std::mem::take(&mut *tasks).into_iter().partition(|_| is_over.next() == Some(true));
        *tasks = running;
        drop(tasks);
        drop(gone);
        Ok(true)
    }

    /// Wait until one of the tasks has ended (True), at most `limit` seconds or until there are
    /// more `interrupts` than the caller knows of.
    fn wait(&self, py: Python<'_>, limit: f64, interrupts: u32) -> PyResult<bool> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let found = self.parent.wait_any(py, || self.first_ended(), limit, interrupts);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let is_found = found?.is_some();
        if !is_found {
            let checked = self.tasks().iter().try_for_each(|(task, _)| task.get().inner.check());
            checked?;
        }
        Ok(is_found)
    }

    // Errors of tasks lead to the frames of their callers, and so back to here.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A thread that looks through them has a reference to this object: it is no garbage. The
        // collector comes here in each of its passes, and must be shown the same: what only the first
        // one is shown, it takes for garbage and finalizes. So a free lock alone does not decide.
        if self.waiting.load(Ordering::Relaxed) > 0 {
            return Ok(());
        }
        let Ok(tasks) = self.tasks.try_lock() else { return Ok(()) };
        tasks.iter().try_for_each(|(task, value)| {
            visit.call(task)?;
            visit.call(value)
        })
    }

    fn __clear__(&self) {
        let gone = std::mem::take(&mut *self.tasks());
        drop(gone);
    }
}
