//! The C library's list of the mutexes that a thread has locked, for when it dies.
//!
//! The links lie in the mutexes, and those of LMDB in memory that it maps from a file. If another
//! process makes a mutex anew, or writes over it, while a thread has it locked, the C library does not
//! find that it is this thread's, and leaves it in the list. Once the memory is unmapped the list leads
//! nowhere, and the next mutex that the thread locks is a fault.

use std::ops::Range;

/// Links that are followed at most: a thread has few mutexes locked, and a damaged list may be a ring.
const MOST: usize = 64;
/// In front of the link to the next mutex is the one that leads back.
const BACK: usize = size_of::<usize>();

/// Take out of the calling thread's list what lies in memory that is about to be unmapped; whether
/// there was something.
pub fn forget(memory: &Range<usize>) -> bool {
    let (mut head, mut len) = (std::ptr::null_mut::<usize>(), 0_usize);
    // SAFETY: asks for two numbers about this thread.
    unsafe { libc::syscall(libc::SYS_get_robust_list, 0, &raw mut head, &raw mut len) };
    if head.is_null() {
        return false;
    }
    let (mut from, mut found) = (head, false);
    for _ in 0..MOST {
        // SAFETY: the thread's own list, whose links are mapped: those in `memory` still are.
        unsafe {
            let to = *from & !1;
            if to == head as usize {
                break;
            }
            if !memory.contains(&to) {
                from = to as *mut usize;
                continue;
            }
            found = true;
            // The lowest bit says of which kind the next mutex is.
            let link = *(to as *const usize);
            let next = link & !1;
            // What was written over leads anywhere. A true neighbour leads back.
            if next == head as usize || read(next.wrapping_sub(BACK)) != Some(to) {
                *from = head as usize;
                break;
            }
            *from = link;
            *((next - BACK) as *mut usize) = from as usize;
        }
    }
    found
}

/// A word of this process, if one is mapped there.
fn read(at: usize) -> Option<usize> {
    let mut found = 0_usize;
    let len = size_of::<usize>();
    let to = libc::iovec { iov_base: (&raw mut found).cast(), iov_len: len };
    let from = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: len };
    // SAFETY: the system looks whether it is mapped; there is room for the answer.
    let got =
        unsafe { libc::process_vm_readv(libc::getpid(), &raw const to, 1, &raw const from, 1, 0) };
    (got == len as isize).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mutex() -> Box<libc::pthread_mutex_t> {
        // SAFETY: a mutex of this process, made as LMDB makes its own.
        unsafe {
            let mut made = Box::new(std::mem::zeroed());
            let mut how: libc::pthread_mutexattr_t = std::mem::zeroed();
            libc::pthread_mutexattr_init(&raw mut how);
            libc::pthread_mutexattr_setpshared(&raw mut how, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(&raw mut how, libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(&raw mut *made, &raw const how);
            made
        }
    }

    fn memory(of: &libc::pthread_mutex_t) -> Range<usize> {
        let from = std::ptr::from_ref(of) as usize;
        from..from + size_of::<libc::pthread_mutex_t>()
    }

    #[test]
    fn a_mutex_whose_memory_goes_is_taken_out_from_between_others() {
        let (mut first, mut second, mut third) = (mutex(), mutex(), mutex());
        let places = [memory(&first), memory(&second), memory(&third)];
        // SAFETY: mutexes that stay where they are until the end.
        unsafe {
            assert!(places.iter().all(|place| !forget(place)));
            for each in [&mut first, &mut second, &mut third] {
                assert_eq!(libc::pthread_mutex_lock(&raw mut **each), 0);
            }
            assert!(forget(&places[1]));
            assert!(!forget(&places[1]));
            for each in [&mut first, &mut third] {
                assert_eq!(libc::pthread_mutex_unlock(&raw mut **each), 0);
            }
        }
        assert!(places.iter().all(|place| !forget(place)));
    }

    #[test]
    fn one_that_was_made_anew_while_it_was_locked_is_taken_out() {
        let (mut lost, mut next) = (mutex(), mutex());
        // SAFETY: as above.
        unsafe {
            assert_eq!(libc::pthread_mutex_lock(&raw mut *lost), 0);
            *lost = *mutex();
            assert_eq!(libc::pthread_mutex_unlock(&raw mut *lost), libc::EPERM);
            assert!(forget(&memory(&lost)));
            drop(lost);
            assert_eq!(libc::pthread_mutex_lock(&raw mut *next), 0);
            assert_eq!(libc::pthread_mutex_unlock(&raw mut *next), 0);
        }
    }
}
