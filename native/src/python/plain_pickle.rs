//! Pickles of objects of builtin types, written and read here: `pickle` takes longer for them. For
//! small ones several times as long, most of it to make a pickler; for large ones since it remembers
//! every object, and collects garbage while it reads.
//!
//! ```text
//! PROTO 5 | value | STOP
//!
//! int     BININT1, BININT or LONG1      float   BINFLOAT
//! str     SHORT_BINUNICODE or BINUNICODE, bytes alike; their 8-byte forms    None, True, False
//! tuple   MARK values TUPLE             list    EMPTY_LIST MARK values APPENDS
//! dict    EMPTY_DICT MARK keys and values SETITEMS
//! record  GLOBAL and MEMOIZE, or the number of the class; EMPTY_TUPLE NEWOBJ dict BUILD
//! ```
//! Every unpickler reads these. An object that others refer to as well is followed by MEMOIZE, or
//! preceded by its contents if it is a list or dict; where it comes again stands BINGET or
//! LONG_BINGET, so it is one object in the copy too. What is none of this is left to `pickle`, on both
//! sides. There is no FRAME: what begins with one was written by `pickle`.

mod memo;
mod output;
mod reader;
mod records;
mod writer;

use super::block::Block;
use super::convert::cached;
use super::queue_item::is_plain;
use super::reducer::Rules;
use output::{Growing, Small};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyType};
use reader::read_any;
pub use reader::{read, Reader};
use records::Classes;
use writer::Writer;

/// Objects of a small one.
pub const LARGEST: usize = 64;
/// Bytes of a small one.
const MAX_BYTES: usize = 4 << 10;
/// Lists, tuples and dicts in each other.
const DEEPEST: u32 = 200;
/// Bytes to begin with: more than most pickles have.
const ROOM: usize = 128;

const PROTO: [u8; 2] = [0x80, 5];
const STOP: u8 = b'.';
const MARK: u8 = b'(';
const TUPLE: u8 = b't';
const LIST: u8 = b']';
const APPENDS: u8 = b'e';
const DICT: u8 = b'}';
const SETITEMS: u8 = b'u';
const NONE: u8 = b'N';
const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;
const INT_1: u8 = b'K';
const INT_4: u8 = b'J';
const LONG: u8 = 0x8a;
const FLOAT: u8 = b'G';
const SHORT_STR: u8 = 0x8c;
const STR: u8 = b'X';
const LONG_STR: u8 = 0x8d;
const SHORT_BYTES: u8 = b'C';
const BYTES: u8 = b'B';
const LONG_BYTES: u8 = 0x8e;
const MEMOIZE: u8 = 0x94;
const GET: u8 = b'h';
const LONG_GET: u8 = b'j';
const CLASS: u8 = b'c';
const NEW_RECORD: [u8; 2] = [b')', 0x81];
const BUILD: u8 = b'b';

/// Append the pickle of a small object; false if it is for `pickle`, or large, and then some bytes
/// may be there.
pub fn write(object: &Bound<'_, PyAny>, to: &mut Vec<u8>) -> bool {
    Writer::new(&mut Small::new(to), LARGEST, None).write(object)
}

/// The pickle of a plain object of any size; None if it is for `pickle`.
pub fn pickled<'py>(object: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    attempt(object, None).ok()
}

/// The pickle, or a class of which Python has to be asked first if there is one.
fn attempt<'py>(
    object: &Bound<'py, PyAny>,
    classes: Option<&Classes<'_, 'py>>,
) -> Result<Bound<'py, PyBytes>, Option<Bound<'py, PyType>>> {
    let mut written = Growing::new(object.py(), ROOM);
    let mut writer = Writer::new(&mut written, usize::MAX, classes);
    if writer.write(object) {
        return written.finish().ok_or(None);
    }
    Err(writer.wanted)
}

/// The pickle of a plain object: made of scalars, tuples, lists and dicts only, and with `rules` of
/// records of classes that go by name. Every pickler writes it in the same way, and no code of the user
/// runs, but for what finds the classes. None for every other object, and for some that are large and
/// have parts that are for `pickle` (text that UTF-8 cannot say).
#[pyfunction]
#[pyo3(signature = (object, rules=None, first=None, /))]
pub fn dumps_plain<'py>(
    object: &Bound<'py, PyAny>,
    rules: Option<&Bound<'py, Rules>>,
    first: Option<&Bound<'py, PyDict>>,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let mut classes = rules.map(|rules| Classes::new(rules, first));
    loop {
        let wanted = match attempt(object, classes.as_ref()) {
            Ok(written) => return Ok(Some(written)),
            Err(wanted) => wanted,
        };
        let is_known = wanted.zip(classes.as_mut()).is_some_and(|(class, known)| known.ask(&class));
        if !is_known {
            break;
        }
    }
    if !is_plain(object, &mut (LARGEST as u32)) {
        return Ok(None);
    }
    let dumps = cached(object.py(), &DUMPS, "pickle", "dumps")?;
    Ok(Some(dumps.call1((object, 5))?.cast_into()?))
}

/// The pickle of a list of scalars, strings among them, that was made of an array; None if it has
/// other items.
#[pyfunction]
pub fn dumps_scalars<'py>(items: &Bound<'py, PyAny>) -> Option<Bound<'py, PyBytes>> {
    let mut written = Growing::new(items.py(), ROOM);
    let done = Writer::new(&mut written, usize::MAX, None).copied().write(items);
    written.finish().filter(|_| done)
}

fn pickle_loads(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    cached(py, &LOADS, "pickle", "loads")
}

/// As `pickle.loads`.
#[pyfunction]
#[pyo3(signature = (data, /, *, buffers=None))]
pub fn loads<'py>(
    data: &Bound<'py, PyAny>,
    buffers: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = data.py();
    let value = match data.cast_exact::<PyBytes>() {
        _ if buffers.is_some() => None,
        Ok(bytes) => read_any(py, bytes.as_bytes()),
        Err(_) => {
            data.cast_exact::<Block>().ok().and_then(|block| read_any(py, block.get().bytes()))
        }
    };
    if let Some(value) = value {
        return Ok(value);
    }
    let loads = pickle_loads(py)?;
    let Some(buffers) = buffers else { return loads.call1((data,)) };
    let named = PyDict::new(py);
    named.set_item("buffers", buffers)?;
    loads.call((data,), Some(&named))
}

/// No collection of garbage while this lives: there is none among what is being made, and to look
/// through all of it again and again takes as long as to make it.
struct CollectorPause(bool);

impl CollectorPause {
    fn new() -> Self {
        // SAFETY: the interpreter is held, until this has gone too.
        Self(unsafe { ffi::PyGC_Disable() } != 0)
    }
}

impl Drop for CollectorPause {
    fn drop(&mut self) {
        if self.0 {
            // SAFETY: as above.
            unsafe { ffi::PyGC_Enable() };
        }
    }
}
