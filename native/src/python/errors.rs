//! The exceptions of `garrison.errors` that the core raises.

use pyo3::prelude::*;

macro_rules! exceptions {
    ($($name:ident)*) => {
        $(pyo3::import_exception!(garrison.errors, $name);)*

        /// Look all of them up now: nothing can be imported once memory has run out.
        pub fn load(py: Python<'_>) -> PyResult<()> {
            py.import("garrison.errors")?;
            $(py.get_type::<$name>();)*
            Ok(())
        }
    };
}

exceptions! {
    ChannelError ContainerGone LinkBroken NotHeld QueueClosed SharedMemoryCorrupt SharedMemoryFull ShutDown
    StoreBusy StoreCorrupt StoreFull StoreVersion TransactionFailed WrongKind
}
