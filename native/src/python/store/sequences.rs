//! Lists, deques, arrays, values and queues.

use super::encode::Values;
use super::failure::Raise;
use super::{encoded, PyStore};
use crate::store::transaction::Writing;
use crate::store::{self, claims, sequence};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

#[pymethods]
impl PyStore {
    fn list_get<'py>(&self, py: Python<'py>, c: u64, i: i64) -> PyResult<Bound<'py, PyAny>> {
        let value = self.read(py, |reading| {
            sequence::get(reading, c, i).map(|value| self.decode_plain(py, value))
        });
        self.finish(py, value.or_raise()?)
    }

    fn list_encoded<'py>(&self, py: Python<'py>, c: u64, i: i64) -> PyResult<Bound<'py, PyBytes>> {
        self.read(py, |reading| sequence::get(reading, c, i).map(|value| PyBytes::new(py, value)))
            .or_raise()
    }

    fn list_set(&self, c: u64, i: i64, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let encoded = self.value(value)?;
        self.write(value.py(), |writing| sequence::set(writing, c, i, &encoded)).or_raise()
    }

    fn list_append(&self, c: u64, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let encoded = self.value(value)?;
        self.write(value.py(), |writing| sequence::append(writing, c, &encoded, false)).or_raise()
    }

    fn list_appendleft(&self, c: u64, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let encoded = self.value(value)?;
        self.write(value.py(), |writing| sequence::append(writing, c, &encoded, true)).or_raise()
    }

    #[pyo3(signature = (c, values, left = false))]
    fn list_extend<'py>(
        &self,
        py: Python<'py>,
        c: u64,
        values: Vec<Bound<'py, PyAny>>,
        left: bool,
    ) -> PyResult<()> {
        let encoded = self.values(&values)?;
        let encoded: Vec<_> = encoded.iter().collect();
        self.write(py, |writing| sequence::extend(writing, c, &encoded, left)).or_raise()
    }

    fn list_insert(&self, c: u64, i: i64, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, encoded) = (value.py(), self.value(value)?);
        self.move_items(py, c, i, |writing| sequence::insert(writing, c, i, &encoded))
    }

    fn list_delete(&self, py: Python<'_>, c: u64, i: i64) -> PyResult<()> {
        self.move_items(py, c, i, |writing| sequence::remove(writing, c, i))
    }

    #[pyo3(signature = (c, i = -1))]
    fn list_pop<'py>(&self, py: Python<'py>, c: u64, i: i64) -> PyResult<Bound<'py, PyAny>> {
        let value = self.move_items(py, c, i, |writing| sequence::pop(writing, c, i))?;
        self.decode(py, &value)
    }

    /// Have a queue take no more items, and drop those that it has if `immediate`.
    fn shut_down_queue(&self, py: Python<'_>, c: u64, immediate: bool) -> PyResult<()> {
        self.write_blocking(py, |writing| sequence::shut(writing, c, immediate)).or_raise()
    }

    /// The items from `start` to `stop`; what is negative counts from the end.
    fn list_slice<'py>(
        &self,
        py: Python<'py>,
        c: u64,
        start: i64,
        stop: i64,
    ) -> PyResult<Bound<'py, PyList>> {
        let values = self
            .read(py, |reading| {
                let values = sequence::slice(reading, c, start, stop)?;
                Ok(values.into_iter().map(|value| self.decode_plain(py, value)).collect::<Vec<_>>())
            })
            .or_raise()?;
        let values: Vec<_> =
            values.into_iter().map(|value| self.finish(py, value)).collect::<PyResult<_>>()?;
        PyList::new(py, values)
    }

    fn list_replace<'py>(
        &self,
        py: Python<'py>,
        c: u64,
        start: u64,
        stop: u64,
        values: Vec<Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let encoded = self.values(&values)?;
        let encoded: Vec<_> = encoded.iter().collect();
        self.write(py, |writing| sequence::replace(writing, c, start, stop, &encoded)).or_raise()
    }

    fn list_add<'py>(
        &self,
        c: u64,
        i: i64,
        delta: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, delta) = (delta.py(), self.number(delta)?);
        let sum = self.write(py, |writing| sequence::add(writing, c, i, &delta)).or_raise()?;
        self.decode(py, &sum)
    }

    /// Replace an item if what is stored has that encoding.
    fn list_compare_and_set(
        &self,
        c: u64,
        i: i64,
        expected: &Bound<'_, PyBytes>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        let (py, value) = (value.py(), encoded(value)?);
        let expected = expected.as_bytes();
        self.write(py, |writing| sequence::compare_and_set(writing, c, i, expected, &value))
            .or_raise()
    }

    /// Take the first item and sign for it: a ticket, and the item.
    fn claim_first<'py>(&self, py: Python<'py>, c: u64) -> PyResult<(u64, Bound<'py, PyAny>)> {
        let owner = self.owner();
        let (ticket, value) =
            self.write(py, |writing| claims::claim(writing, c, owner)).or_raise()?;
        Ok((ticket, self.decode(py, &value)?))
    }

    /// A claimed item is dealt with; False if no owner has this ticket.
    fn ack_claim(&self, py: Python<'_>, c: u64, ticket: u64) -> PyResult<bool> {
        self.write(py, |writing| claims::ack(writing, c, ticket)).or_raise()
    }

    /// A claimed item goes back to the front; False if no owner has this ticket.
    fn return_claim(&self, py: Python<'_>, c: u64, ticket: u64) -> PyResult<bool> {
        self.write(py, |writing| claims::return_claim(writing, c, ticket)).or_raise()
    }
}

impl PyStore {
    /// Do something at an index: in the middle of a long sequence many others move.
    #[inline]
    fn move_items<T>(
        &self,
        py: Python<'_>,
        c: u64,
        i: i64,
        run: impl FnMut(&mut Writing) -> store::Result<T>,
    ) -> PyResult<T> {
        let at_end = i == 0 || i == -1;
        if !at_end && self.is_long(py, c)? {
            return self.write_blocking(py, run).or_raise();
        }
        self.write(py, run).or_raise()
    }

    fn values<'py>(&self, values: &[Bound<'py, PyAny>]) -> PyResult<Values<'py>> {
        let mut encoded = Values::default();
        values.iter().try_for_each(|value| self.push_value(value, &mut encoded))?;
        Ok(encoded)
    }
}
