//! A SQLite VFS whose writes and syncs go through `io_uring`: many pages as one write, with the sync linked to it.
//!
//! It behaves like SQLite's Unix VFS except in writing and syncing databases and their write-ahead logs. Writes are
//! gathered, and passed to the kernel when somebody else could see the file: at syncs, at overlapping reads, and before
//! locks are released or the log's index announces something new.
//!
//! Invariants: the files are opened only by SQLite's VFS, so that its locks work; nothing gathered is left when another
//! process may read; a write that failed is reported by every later call, unless it found no room and SQLite was told
//! at once; a failed sync is never retried.

#![allow(unsafe_code)] // SQLite calls through pointers.

mod queue;
pub mod recording;
mod writer;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::{offset_of, size_of};
use std::os::fd::RawFd;
use std::ptr::{self, NonNull};
use std::sync::{Mutex, OnceLock, PoisonError};

use rusqlite::ffi;

use self::queue::Queue;
use self::writer::{Fault, UringWriter, Writer};
use crate::store::journal::{Severity, severity};

/// The name of the VFS that writes through `io_uring`.
pub const URING: &str = "caxton-uring";
/// The underlying VFS.
const UNIX: &CStr = c"unix";
/// The name of its system call that opens a file.
const OPEN: &CStr = c"open";

/// The VFS is not available.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VfsError {
    /// The kernel provides no ring.
    #[error("SQLite cannot write through io_uring, which this host refuses: {0}; set store.vfs = \"unix\"")]
    Ring(io::Error),
    /// SQLite lacks its own VFS, or does not accept this one.
    #[error("SQLite does not take the layer {0} (code {1}); set store.vfs = \"unix\"")]
    Refused(String, c_int),
}

/// Registers the VFS [`URING`] with SQLite. It does not become the default. Repeated calls change nothing.
///
/// # Errors
///
/// There is no `io_uring`, or SQLite refuses.
pub fn register() -> Result<(), VfsError> {
    static REGISTERED: Mutex<bool> = Mutex::new(false);
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*registered {
        register_as(URING, Box::new(UringWriter::new().map_err(VfsError::Ring)?))?;
        *registered = true;
    }
    Ok(())
}

/// Takes the system's error of the last write or sync that failed for good, for which SQLite only has codes.
pub fn take_last_error() -> Option<String> {
    LAST_ERROR.lock().unwrap_or_else(PoisonError::into_inner).take()
}

static LAST_ERROR: Mutex<Option<String>> = Mutex::new(None);

type OpenCall = unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int;

/// SQLite's own system call.
static OPEN_CALL: OnceLock<OpenCall> = OnceLock::new();

thread_local! {
    /// The descriptor opened last, while a file of this VFS is being opened.
    static OPENED: Cell<Option<RawFd>> = const { Cell::new(None) };
    static LISTENS: Cell<bool> = const { Cell::new(false) };
}

/// What a VFS has besides SQLite's own.
struct Layer {
    unix: *mut ffi::sqlite3_vfs,
    writer: Box<dyn Writer>,
}

/// A file as seen by SQLite. It is followed by the file of SQLite's own VFS.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    state: *mut State,
}

const INNER_AT: usize = size_of::<File>().next_multiple_of(16);
const _: () = assert!(offset_of!(File, base) == 0, "SQLite looks for its part at the beginning");

/// The state of a file in this VFS.
struct State {
    layer: &'static Layer,
    inner: *mut ffi::sqlite3_file,
    descriptor: RawFd,
    queue: Queue,
    /// Whether a sync by SQLite's own VFS has made the name durable too.
    named: bool,
    /// The code that every call returns from now on.
    failed: Option<c_int>,
    /// For a database: its write-ahead log, while that is open. For a log: its database.
    other: Option<NonNull<State>>,
}

/// Registers a VFS with SQLite.
fn register_as(name: &str, writer: Box<dyn Writer>) -> Result<(), VfsError> {
    let refused = |code| VfsError::Refused(name.to_owned(), code);
    let name_text = CString::new(name).map_err(|_| refused(ffi::SQLITE_MISUSE))?;
    // SAFETY: the name is NUL-terminated; the first call initialises SQLite.
    let unix = unsafe { ffi::sqlite3_vfs_find(UNIX.as_ptr()) };
    // SAFETY: a registered VFS stays valid as long as the process lives.
    let mut vfs = *unsafe { unix.as_ref() }.ok_or_else(|| refused(ffi::SQLITE_NOTFOUND))?;
    listen_to_open(unix, &vfs).ok_or_else(|| refused(ffi::SQLITE_NOTFOUND))?;
    let layer = Box::leak(Box::new(Layer { unix, writer }));
    vfs.szOsFile = c_int::try_from(INNER_AT).unwrap_or(c_int::MAX).saturating_add(vfs.szOsFile);
    vfs.zName = name_text.into_raw();
    vfs.pNext = ptr::null_mut();
    vfs.pAppData = ptr::from_mut(layer).cast();
    vfs.xOpen = Some(open);
    // SAFETY: the VFS is leaked, as SQLite needs it forever. Its other functions are those of SQLite's own VFS, which
    // do not use the VFS that they are called with.
    match unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 0) } {
        ffi::SQLITE_OK => Ok(()),
        code => Err(refused(code)),
    }
}

/// Makes SQLite's own VFS open files through [`open_and_tell`].
fn listen_to_open(unix: *mut ffi::sqlite3_vfs, vfs: &ffi::sqlite3_vfs) -> Option<()> {
    static LISTENING: Mutex<bool> = Mutex::new(false);
    let mut listening = LISTENING.lock().unwrap_or_else(PoisonError::into_inner);
    if *listening {
        return Some(());
    }
    // SAFETY: both are called as SQLite documents them, with the VFS that they belong to.
    let original = unsafe { vfs.xGetSystemCall?(unix, OPEN.as_ptr()) }?;
    // SAFETY: this is the documented type of the system call "open" in SQLite's VFS.
    let original = unsafe { std::mem::transmute::<unsafe extern "C" fn(), OpenCall>(original) };
    OPEN_CALL.set(original).ok()?;
    // SAFETY: SQLite casts it back to its original type before it calls it.
    let ours = unsafe { std::mem::transmute::<OpenCall, unsafe extern "C" fn()>(open_and_tell) };
    // SAFETY: as above.
    let set = unsafe { vfs.xSetSystemCall?(unix, OPEN.as_ptr(), Some(ours)) };
    *listening = set == ffi::SQLITE_OK;
    listening.then_some(())
}

/// Opens a file as before, and records its descriptor if a file of this VFS is being opened.
unsafe extern "C" fn open_and_tell(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    let Some(original) = OPEN_CALL.get() else { return -1 };
    // SAFETY: the arguments are SQLite's own.
    let descriptor = unsafe { original(path, flags, mode) };
    if descriptor >= 0 && LISTENS.get() {
        OPENED.set(Some(descriptor));
    }
    descriptor
}

/// `xOpen`: databases and logs become files of this VFS, anything else one of SQLite's own.
unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes the registered VFS, whose data is leaked.
    let layer: &'static Layer = unsafe { &*(*vfs).pAppData.cast::<Layer>() };
    // SAFETY: as for `register_as`.
    let Some(inner_open) = (unsafe { (*layer.unix).xOpen }) else { return ffi::SQLITE_ERROR };
    if flags & (ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL) == 0 || name.is_null() {
        // SAFETY: there is room for a file of SQLite's own, and more.
        return unsafe { inner_open(layer.unix, name, file, flags, out_flags) };
    }
    let ours = file.cast::<File>();
    // SAFETY: SQLite provides `szOsFile` bytes: those of `File`, followed by those of its own VFS's file.
    let inner = unsafe { file.byte_add(INNER_AT) };
    // SAFETY: as above. Without methods SQLite does not close the file.
    unsafe { (*ours).base.pMethods = ptr::null() };
    OPENED.set(None);
    LISTENS.set(true);
    // SAFETY: as above.
    let code = unsafe { inner_open(layer.unix, name, inner, flags, out_flags) };
    LISTENS.set(false);
    if code != ffi::SQLITE_OK {
        return code;
    }
    let Some(descriptor) = OPENED.take() else {
        // SQLite took a descriptor that it had kept for its locks. It cannot be found out, so the file is left to
        // SQLite: its state is moved to the front, where SQLite expects it. SAFETY: the VFS stays valid.
        let Ok(length) = usize::try_from(unsafe { (*layer.unix).szOsFile }) else { return ffi::SQLITE_ERROR };
        // SAFETY: both places are in the bytes provided by SQLite, and files of its own VFS can be moved until they are
        // used.
        unsafe { ptr::copy(inner.cast::<u8>(), file.cast::<u8>(), length) };
        return code;
    };
    let wal = flags & ffi::SQLITE_OPEN_WAL != 0;
    let state = State {
        layer,
        inner,
        descriptor,
        queue: Queue::default(),
        named: false,
        failed: None,
        other: if wal { database_of(name) } else { None },
    };
    layer.writer.opened(descriptor, wal);
    let state = Box::leak(Box::new(state));
    if let Some(database) = state.other {
        // SAFETY: a database is open as long as its log is, and one thread at a time uses both.
        unsafe { (*database.as_ptr()).other = Some(NonNull::from(&mut *state)) };
    }
    // SAFETY: as above.
    unsafe {
        (*ours).state = state;
        (*ours).base.pMethods = &raw const METHODS;
    }
    ffi::SQLITE_OK
}

/// Returns the database of a write-ahead log, if it is a file of this VFS.
fn database_of(log: ffi::sqlite3_filename) -> Option<NonNull<State>> {
    // SAFETY: SQLite has called `xOpen` with this name, with the flag of a write-ahead log.
    let database = unsafe { ffi::sqlite3_database_file_object(log) };
    // SAFETY: the file is open; its methods show whether it belongs to this VFS.
    if database.is_null() || unsafe { (*database).pMethods } != &raw const METHODS {
        return None;
    }
    // SAFETY: it does.
    NonNull::new(unsafe { (*database.cast::<File>()).state })
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // Without the third version nothing is memory-mapped past this VFS.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Returns the state of a file of this VFS.
///
/// # Safety
///
/// The file must have been opened by [`open`] with these methods, and not be closed yet. SQLite uses a connection's
/// files from one thread at a time.
unsafe fn state<'a>(file: *mut ffi::sqlite3_file) -> &'a mut State {
    // SAFETY: see above.
    unsafe { &mut *(*file.cast::<File>()).state }
}

/// Calls a function of SQLite's own VFS with the file's own part.
macro_rules! inner {
    ($state:expr, $method:ident($($argument:expr),*)) => {{
        let inner = $state.inner;
        // SAFETY: the file of SQLite's own VFS is open as long as this one.
        match unsafe { (*(*inner).pMethods).$method } {
            // SAFETY: as above; the arguments are SQLite's.
            Some(method) => unsafe { method(inner $(, $argument)*) },
            None => ffi::SQLITE_IOERR,
        }
    }};
}

impl State {
    /// Passes what was gathered to the kernel, and syncs it if `sync` is set.
    fn flush(&mut self, sync: bool) -> c_int {
        if let Some(code) = self.failed {
            return code;
        }
        let stretches = self.queue.take();
        if stretches.is_empty() && !sync {
            return ffi::SQLITE_OK;
        }
        match self.layer.writer.write(self.descriptor, stretches, sync) {
            Ok(()) => ffi::SQLITE_OK,
            // SQLite rolls its transaction back, and may retry.
            Err(Fault::Write(error)) if severity(&error) == Severity::NoRoom => ffi::SQLITE_FULL,
            Err(Fault::Write(error)) => self.fail_because(ffi::SQLITE_IOERR_WRITE, &error),
            Err(Fault::Sync(error)) => self.fail_because(ffi::SQLITE_IOERR_FSYNC, &error),
        }
    }

    /// Like [`State::flush`], for calls whose result SQLite ignores: a failure is reported by all later calls.
    fn flush_unheard(&mut self) -> c_int {
        match self.flush(false) {
            ffi::SQLITE_OK => ffi::SQLITE_OK,
            code => self.fail(code),
        }
    }

    /// Makes the bytes of this file and its log visible to others.
    fn publish(&mut self) -> c_int {
        let log = match self.other {
            // SAFETY: both are open, and used by one thread at a time; `self` is not the other one.
            Some(other) => unsafe { (*other.as_ptr()).flush_unheard() },
            None => ffi::SQLITE_OK,
        };
        match self.flush_unheard() {
            ffi::SQLITE_OK => log,
            code => code,
        }
    }

    fn fail_because(&mut self, code: c_int, error: &io::Error) -> c_int {
        *LAST_ERROR.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.fail(code)
    }

    fn fail(&mut self, code: c_int) -> c_int {
        self.failed = Some(code);
        code
    }
}

/// Yields the core to a waiting shard. A checkpoint writes thousands of pages in one call, during which these calls are
/// the only opportunity.
fn give_way() {
    std::thread::yield_now();
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: see `state`; the same for every function from here on.
    let state = unsafe { state(file) };
    let flushed = state.flush(false);
    let code = inner!(state, xClose());
    if let Some(other) = state.other {
        // SAFETY: a log is closed before its database, and removes itself from it; so the other one is still open.
        unsafe { (*other.as_ptr()).other = None };
    }
    // SAFETY: it was leaked by `open`, and nobody uses it any more.
    drop(unsafe { Box::from_raw(ptr::from_mut(state)) });
    if code == ffi::SQLITE_OK { flushed } else { code }
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, bytes: *mut c_void, length: c_int, offset: i64) -> c_int {
    let state = unsafe { state(file) };
    give_way();
    let (from, count) = (u64::try_from(offset).unwrap_or(0), usize::try_from(length).unwrap_or(0));
    if state.queue.overlaps(from, count) {
        let code = state.flush(false);
        if code != ffi::SQLITE_OK {
            return code;
        }
    }
    inner!(state, xRead(bytes, length, offset))
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, bytes: *const c_void, length: c_int, offset: i64) -> c_int {
    let state = unsafe { state(file) };
    if let Some(code) = state.failed {
        return code;
    }
    give_way();
    let (Ok(length), Ok(offset)) = (usize::try_from(length), u64::try_from(offset)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: SQLite provides this many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), length) };
    if !state.queue.push(offset, bytes) {
        let code = state.flush(false);
        if code != ffi::SQLITE_OK {
            return code;
        }
        // Nothing overlaps with an empty queue.
        state.queue.push(offset, bytes);
    }
    if state.queue.is_full() { state.flush(false) } else { ffi::SQLITE_OK }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    let state = unsafe { state(file) };
    let code = state.flush(false);
    if code != ffi::SQLITE_OK {
        return code;
    }
    let code = inner!(state, xTruncate(length));
    if code == ffi::SQLITE_OK {
        state.layer.writer.truncated(state.descriptor, u64::try_from(length).unwrap_or(0));
    }
    code
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let state = unsafe { state(file) };
    if state.named {
        return state.flush(true);
    }
    let code = state.flush(false);
    if code != ffi::SQLITE_OK {
        return code;
    }
    match inner!(state, xSync(flags)) {
        ffi::SQLITE_OK => {
            state.named = true;
            state.layer.writer.synced(state.descriptor);
            ffi::SQLITE_OK
        }
        code => state.fail(code),
    }
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, length: *mut i64) -> c_int {
    let state = unsafe { state(file) };
    match state.flush(false) {
        ffi::SQLITE_OK => inner!(state, xFileSize(length)),
        code => code,
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    inner!(unsafe { state(file) }, xLock(level))
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    let state = unsafe { state(file) };
    let published = state.publish();
    match inner!(state, xUnlock(level)) {
        ffi::SQLITE_OK => published,
        code => code,
    }
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, reserved: *mut c_int) -> c_int {
    inner!(unsafe { state(file) }, xCheckReservedLock(reserved))
}

unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
    let state = unsafe { state(file) };
    if matches!(
        operation,
        ffi::SQLITE_FCNTL_COMMIT_PHASETWO | ffi::SQLITE_FCNTL_SIZE_HINT | ffi::SQLITE_FCNTL_CHUNK_SIZE
    ) {
        let code = state.publish();
        if code != ffi::SQLITE_OK {
            return code;
        }
    }
    inner!(state, xFileControl(operation, argument))
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    inner!(unsafe { state(file) }, xSectorSize())
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    inner!(unsafe { state(file) }, xDeviceCharacteristics())
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    page: c_int,
    length: c_int,
    extend: c_int,
    place: *mut *mut c_void,
) -> c_int {
    inner!(unsafe { state(file) }, xShmMap(page, length, extend, place))
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    let state = unsafe { state(file) };
    let published = if flags & ffi::SQLITE_SHM_UNLOCK != 0 { state.publish() } else { ffi::SQLITE_OK };
    match inner!(state, xShmLock(offset, count, flags)) {
        ffi::SQLITE_OK => published,
        code => code,
    }
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    let state = unsafe { state(file) };
    let _ = state.publish();
    let inner = state.inner;
    // SAFETY: the file of SQLite's own VFS is open as long as this one.
    if let Some(barrier) = unsafe { (*(*inner).pMethods).xShmBarrier } {
        // SAFETY: as above.
        unsafe { barrier(inner) };
    }
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    inner!(unsafe { state(file) }, xShmUnmap(delete))
}
