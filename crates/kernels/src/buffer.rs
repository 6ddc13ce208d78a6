//! Memory for weights, activations and KV pages: zeroed, 64-byte aligned, committed at first touch.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// Huge pages are asked for from this size on.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Plain numbers: every bit pattern is a value, and all-zero bytes are zero.
///
/// # Safety
/// Only for types without padding or invalid bit patterns, of which all-zero bytes are zero.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}
// SAFETY: integers and floats have no padding and no invalid bit patterns.
unsafe impl Plain for u8 {}
// SAFETY: as above.
unsafe impl Plain for i8 {}
// SAFETY: as above.
unsafe impl Plain for u16 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}
// SAFETY: as above.
unsafe impl Plain for f32 {}

/// A fixed-length array of plain numbers in its own memory mapping.
///
/// The address space is reserved at once and reads as zero; the system commits a page when it is
/// first written. The start is aligned to 64 bytes at least, and to 2 MiB for large buffers.
pub struct Buffer<T: Plain> {
    start: *mut T,
    len: usize,
    map: *mut libc::c_void,
    map_bytes: usize,
    element: PhantomData<T>,
}

// SAFETY: a Buffer owns its mapping and T is plain data, so it moves and is shared like a Vec<T>.
unsafe impl<T: Plain> Send for Buffer<T> {}
// SAFETY: as above; shared access gives only `&[T]`.
unsafe impl<T: Plain> Sync for Buffer<T> {}

impl<T: Plain> Buffer<T> {
    /// A buffer of `len` zeros.
    ///
    /// Panics if the address space cannot be reserved; memory budgets are checked by the caller.
    pub fn zeroed(len: usize) -> Buffer<T> {
        let bytes = len.checked_mul(size_of::<T>()).expect("a buffer's size fits an address");
        assert!(bytes <= isize::MAX as usize / 2, "{bytes} bytes exceed any address space");
        let huge = bytes >= HUGE_PAGE_BYTES;
        let map_bytes = if huge { bytes + HUGE_PAGE_BYTES } else { bytes.max(1) };
        // SAFETY: an anonymous private mapping with no address hint has no preconditions.
        let map = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                map_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert!(map != libc::MAP_FAILED, "cannot reserve {map_bytes} bytes of address space");
        let offset = if huge { map.align_offset(HUGE_PAGE_BYTES) } else { 0 };
        let start = map.wrapping_byte_add(offset);
        if huge {
            // SAFETY: `start..start + bytes` lies inside the mapping; the advice may be refused.
            unsafe { libc::madvise(start, bytes, libc::MADV_HUGEPAGE) };
        }
        Buffer { start: start.cast(), len, map, map_bytes, element: PhantomData }
    }

    /// A copy of `values`.
    pub fn copied(values: &[T]) -> Buffer<T> {
        let mut buffer = Buffer::zeroed(values.len());
        buffer.copy_from_slice(values);
        buffer
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.len * size_of::<T>()
    }
}

impl<T: Plain> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: the mapping holds `len` initialised values and lives as long as self.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T: Plain> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and `&mut self` makes the access unique.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.len) }
    }
}

impl<T: Plain> Drop for Buffer<T> {
    fn drop(&mut self) {
        // SAFETY: `map` and `map_bytes` are those of the one mapping made in `zeroed`.
        unsafe { libc::munmap(self.map, self.map_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_zero_aligned_and_writable() {
        for len in [0, 1, 17, 3 << 20] {
            let mut buffer = Buffer::<f32>::zeroed(len);
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert!(buffer.iter().all(|&x| x == 0.0));
            buffer.iter_mut().for_each(|x| *x = 1.0);
            assert!(buffer.iter().all(|&x| x == 1.0));
        }
    }
}
