//! The file layer between SQLite and real files: everything is handed on, and noted on the way.
#![expect(unsafe_code, reason = "SQLite's interface for file layers is one of C functions and pointers")]

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::mem::size_of;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, Once};

use rusqlite::ffi;

use super::{Disk, disk_of};

/// What SQLite keeps for an open file. The real layer's own part follows it in the same piece of memory.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    /// Owned; null for a file that is on no simulated disk.
    noted: *mut Noted,
}

struct Noted {
    disk: Arc<Disk>,
    file: usize,
    /// The first sync syncs the names in the folder too, as the real layer does for journals.
    sync_names: bool,
}

/// Makes it SQLite's standard layer, once in a process. Files elsewhere are handed on and not noted.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the standard layer is never removed, and `layer` is leaked, so both outlive the process's use of them.
        unsafe {
            let real = ffi::sqlite3_vfs_find(std::ptr::null());
            assert!(!real.is_null(), "SQLite has a standard file layer");
            let layer = Box::leak(Box::new(*real));
            layer.zName = c"simulated-disk".as_ptr();
            layer.pNext = std::ptr::null_mut();
            layer.szOsFile += c_int::try_from(size_of::<File>()).expect("a few bytes");
            layer.pAppData = real.cast::<c_void>();
            layer.xOpen = Some(open);
            layer.xDelete = Some(delete);
            assert_eq!(ffi::sqlite3_vfs_register(layer, 1), ffi::SQLITE_OK);
        }
    });
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    // Without version 3 SQLite does not map files into memory, and sees every write.
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

/// The real layer's part of a file.
///
/// # Safety
/// `file` is one that SQLite gave to a function of this layer.
unsafe fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: `szOsFile` asked for room for both parts; `File` has the alignment of a pointer, like the real part.
    unsafe { file.cast::<u8>().add(size_of::<File>()).cast() }
}

/// # Safety
/// As for [`real`]; the file is open.
unsafe fn noted<'f>(file: *mut ffi::sqlite3_file) -> Option<&'f mut Noted> {
    // SAFETY: `open` put a leaked box or null there, and only `close` takes it back. SQLite uses a file from one thread
    // at a time.
    unsafe { (*file.cast::<File>()).noted.as_mut() }
}

/// Calls the real layer's function of this name.
macro_rules! real {
    ($file:expr, $name:ident $(, $arg:expr)*) => {{
        let real = unsafe { real($file) };
        // SAFETY: the real layer opened its part and set its functions, which version 2 has all.
        unsafe { ((*(*real).pMethods).$name.expect("a file layer of version 2"))(real $(, $arg)*) }
    }};
}

/// # Safety
/// `name` is null or a text that SQLite gave.
unsafe fn path_of<'n>(name: *const c_char) -> Option<&'n Path> {
    if name.is_null() {
        return None;
    }
    // SAFETY: texts of SQLite end with zero and live as long as the call.
    Some(Path::new(OsStr::from_bytes(unsafe { CStr::from_ptr(name) }.to_bytes())))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

unsafe extern "C" fn open(
    layer: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let ours = file.cast::<File>();
    // SAFETY: `pAppData` is the standard layer (see `install`), and `file` has room for both parts.
    let code = unsafe {
        (*ours).base.pMethods = std::ptr::null();
        (*ours).noted = std::ptr::null_mut();
        let layer = (*layer).pAppData.cast::<ffi::sqlite3_vfs>();
        ((*layer).xOpen.expect("every layer opens files"))(layer, name, real(file), flags, out_flags)
    };
    if code != ffi::SQLITE_OK {
        return code;
    }
    // SAFETY: `name` is SQLite's.
    let found = unsafe { path_of(name) }.and_then(|path| Some((disk_of(path)?, name_of(path))));
    let noted = found.map_or(std::ptr::null_mut(), |(disk, name)| {
        let file = disk.record().open(&name);
        let journals = ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
        let sync_names = flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & journals != 0;
        Box::into_raw(Box::new(Noted { disk, file, sync_names }))
    });
    // SAFETY: as above.
    unsafe {
        (*ours).noted = noted;
        (*ours).base.pMethods = &raw const METHODS;
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(layer: *mut ffi::sqlite3_vfs, name: *const c_char, sync_names: c_int) -> c_int {
    // SAFETY: as in `open`.
    let (code, path) = unsafe {
        let layer = (*layer).pAppData.cast::<ffi::sqlite3_vfs>();
        let code = ((*layer).xDelete.expect("every layer deletes files"))(layer, name, 0);
        (code, path_of(name))
    };
    if code == ffi::SQLITE_OK
        && let Some((path, disk)) = path.and_then(|path| Some((path, disk_of(path)?)))
    {
        disk.record().delete(&name_of(path), sync_names != 0);
    }
    code
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let code = real!(file, xClose);
    // SAFETY: `open` leaked the box, and SQLite closes a file once.
    unsafe {
        let ours = file.cast::<File>();
        if !(*ours).noted.is_null() {
            drop(Box::from_raw((*ours).noted));
            (*ours).noted = std::ptr::null_mut();
        }
    }
    code
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, to: *mut c_void, amount: c_int, offset: i64) -> c_int {
    real!(file, xRead, to, amount, offset)
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, from: *const c_void, amount: c_int, offset: i64) -> c_int {
    // SAFETY: SQLite gives `amount` readable bytes.
    let (noted, data) =
        unsafe { (noted(file), std::slice::from_raw_parts(from.cast::<u8>(), amount.cast_unsigned() as usize)) };
    if let Some(noted) = noted
        && !noted.disk.record().write(noted.file, offset.cast_unsigned(), data)
    {
        return ffi::SQLITE_FULL;
    }
    real!(file, xWrite, from, amount, offset)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    // SAFETY: the file is open.
    if let Some(noted) = unsafe { noted(file) } {
        noted.disk.record().truncate(noted.file, length.cast_unsigned());
    }
    real!(file, xTruncate, length)
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    // SAFETY: the file is open.
    let Some(noted) = (unsafe { noted(file) }) else { return real!(file, xSync, flags) };
    // The real file needs no sync: what counts is the record.
    let done = noted.disk.record().sync(noted.file, noted.sync_names);
    if done {
        noted.sync_names = false;
        return ffi::SQLITE_OK;
    }
    ffi::SQLITE_IOERR_FSYNC
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    real!(file, xFileSize, size)
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    real!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    real!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    real!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, op: c_int, argument: *mut c_void) -> c_int {
    real!(file, xFileControl, op, argument)
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    real!(file, xSectorSize)
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    real!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    page: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    real!(file, xShmMap, page, size, extend, out)
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, offset: c_int, count: c_int, flags: c_int) -> c_int {
    real!(file, xShmLock, offset, count, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    real!(file, xShmBarrier);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    real!(file, xShmUnmap, delete)
}
