//! Numbers of C as Python's numbers.

use crate::sync::c_number::NumberKind;
use pyo3::ffi;
use pyo3::prelude::*;

/// Converting between the bits of a number and a Python object.
pub trait PyNumber: Sized {
    fn to_python(self, py: Python<'_>, bits: u64) -> PyResult<Bound<'_, PyAny>>;

    /// The bits of a Python number, as many as there is room for: the rest is cut off, as by ctypes.
    fn to_bits(self, object: &Bound<'_, PyAny>) -> PyResult<u64>;
}

impl PyNumber for NumberKind {
    fn to_python(self, py: Python<'_>, bits: u64) -> PyResult<Bound<'_, PyAny>> {
        let signed = |number: i64| -> PyResult<Bound<'_, PyAny>> {
            // SAFETY: a new reference, or nothing and an error.
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyLong_FromLongLong(number)) }
        };
        let float = |number: f64| -> PyResult<Bound<'_, PyAny>> {
            // SAFETY: as above.
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyFloat_FromDouble(number)) }
        };
        match self {
            Self::Bool => Ok((bits as u8 != 0).into_pyobject(py)?.to_owned().into_any()),
            Self::I8 => signed(i64::from(bits as i8)),
            Self::U8 => signed(i64::from(bits as u8)),
            Self::I16 => signed(i64::from(bits as i16)),
            Self::U16 => signed(i64::from(bits as u16)),
            Self::I32 => signed(i64::from(bits as i32)),
            Self::U32 => signed(i64::from(bits as u32)),
            Self::I64 => signed(bits as i64),
            Self::U64 => Ok(bits.into_pyobject(py)?.into_any()),
            Self::F32 => float(f64::from(f32::from_bits(bits as u32))),
            Self::F64 => float(f64::from_bits(bits)),
        }
    }

    #[inline]
    fn to_bits(self, object: &Bound<'_, PyAny>) -> PyResult<u64> {
        match self {
            Self::Bool => object.is_truthy().map(u64::from),
            Self::F32 | Self::F64 => float_bits(self, object),
            _ => integer_bits(object),
        }
    }
}

fn float_bits(kind: NumberKind, object: &Bound<'_, PyAny>) -> PyResult<u64> {
    let number: f64 = object.extract()?;
    if kind == NumberKind::F64 {
        return Ok(number.to_bits());
    }
    Ok(u64::from((number as f32).to_bits()))
}

#[inline]
fn integer_bits(object: &Bound<'_, PyAny>) -> PyResult<u64> {
    // SAFETY: a live object; all ones may be an error, which is asked for.
    let bits = unsafe { ffi::PyLong_AsUnsignedLongLongMask(object.as_ptr()) };
    if bits == u64::MAX {
        if let Some(error) = PyErr::take(object.py()) {
            return Err(error);
        }
    }
    Ok(bits)
}
