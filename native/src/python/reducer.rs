//! Which way of writing an object down a pickler takes: asked for every object that is not of a
//! builtin type, so it is decided here, and Python is asked only for functions and classes.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFunction, PyType};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a kind of transfer knows, for all of its picklers.
#[pyclass(frozen, module = "garrison._core")]
pub struct Rules {
    /// Reducers that are for transfers only, by exact type (`ForkingPickler`'s).
    registered: Py<PyDict>,
    /// Reducers of all picklers, by exact type (`copyreg`'s).
    standard: Py<PyDict>,
    /// Reducers of last resort, by exact type.
    others: Py<PyDict>,
    /// Types of which only Python's part of a pass knows how they travel.
    parts: Py<PyDict>,
    /// Functions and classes that travel by reference, and will go on to do so.
    names: Py<PyDict>,
    /// Makes Python's part of a pass. Without it all functions and classes travel by reference.
    begin: Option<Py<PyAny>>,
}

#[pymethods]
impl Rules {
    #[new]
    fn new(
        registered: Py<PyDict>,
        standard: Py<PyDict>,
        others: Py<PyDict>,
        parts: Py<PyDict>,
        begin: Option<Py<PyAny>>,
        py: Python<'_>,
    ) -> Self {
        let names = PyDict::new(py).unbind();
        Self { registered, standard, others, parts, names, begin }
    }

    /// What one pass over an object asks. `first` has reducers before all others.
    #[pyo3(signature = (first = None))]
    fn reducer(slf: Py<Self>, first: Option<Py<PyDict>>) -> Reducer {
        Reducer::new(slf, first)
    }
}

impl Rules {
    /// Entries of all tables, which only grow.
    fn size(&self, py: Python<'_>) -> usize {
        let tables = [&self.registered, &self.standard, &self.others, &self.parts];
        tables.into_iter().map(|table| table.bind(py).len()).sum()
    }

    /// Whether objects of this type have a way of their own.
    pub fn has_reducer(&self, kind: &Bound<'_, PyType>) -> bool {
        let tables = [&self.registered, &self.standard, &self.others, &self.parts];
        tables.into_iter().any(|table| table.bind(kind.py()).contains(kind).unwrap_or(true))
    }

    /// Whether it is known already that a class travels by reference.
    pub fn goes_by_name(&self, kind: &Bound<'_, PyType>) -> bool {
        self.begin.is_none() || self.names.bind(kind.py()).contains(kind).unwrap_or(false)
    }
}

/// One pass over an object.
#[pyclass(frozen, module = "garrison._core")]
pub struct Reducer {
    rules: Py<Rules>,
    first: Option<Py<PyDict>>,
    pass: PyOnceLock<Py<PyAny>>,
    /// The type of the last object with no way of its own, and the sizes of the tables then: most
    /// objects are of the type of the one before. Read and written with the interpreter held.
    ordinary: [AtomicUsize; 2],
}

impl Reducer {
    pub fn new(rules: Py<Rules>, first: Option<Py<PyDict>>) -> Self {
        Self { rules, first, pass: PyOnceLock::new(), ordinary: Default::default() }
    }

    /// Ask Python, which remembers what belongs to this pass.
    #[cold]
    fn ask<'py>(&self, rules: &Rules, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        let Some(begin) = &rules.begin else { return Ok(not_implemented(py)) };
        let pass = self.pass.get_or_try_init(py, || begin.call1(py, (&rules.names,)))?;
        pass.bind(py).call1((object,))
    }
}

#[pymethods]
impl Reducer {
    /// What `reducer_override` returns for an object.
    pub fn reduce<'py>(&self, object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = object.py();
        let rules = self.rules.get();
        let known = [object.get_type_ptr() as usize, rules.size(py)];
        if [0, 1].into_iter().all(|n| self.ordinary[n].load(Ordering::Relaxed) == known[n]) {
            return Ok(not_implemented(py));
        }
        let kind = object.get_type();
        if let Some(first) = &self.first {
            if let Some(reduce) = first.bind(py).get_item(&kind)? {
                return reduce.call1((object,));
            }
        }
        // As the standard picklers, which ask no table about these two.
        if object.is_exact_instance_of::<PyFunction>() || object.is_exact_instance_of::<PyType>() {
            if rules.begin.is_none() || rules.names.bind(py).contains(object)? {
                return Ok(not_implemented(py));
            }
            return self.ask(rules, object);
        }
        if let Some(reduce) = rules.registered.bind(py).get_item(&kind)? {
            return reduce.call1((object,));
        }
        if rules.standard.bind(py).contains(&kind)? {
            return Ok(not_implemented(py));
        }
        if let Some(reduce) = rules.others.bind(py).get_item(&kind)? {
            return reduce.call1((object,));
        }
        if object.is_instance_of::<PyType>() || rules.parts.bind(py).contains(&kind)? {
            return self.ask(rules, object);
        }
        [0, 1].into_iter().for_each(|n| self.ordinary[n].store(known[n], Ordering::Relaxed));
        Ok(not_implemented(py))
    }
}

fn not_implemented(py: Python<'_>) -> Bound<'_, PyAny> {
    py.NotImplemented().into_bound(py)
}
