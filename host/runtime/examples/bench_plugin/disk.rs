//! How fast the disk is in this minute. A figure without it says little.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Overwrites 4 KiB and calls `fdatasync`, for half a second.
pub(crate) fn fsyncs_per_second(folder: &Path) -> std::io::Result<f64> {
    let mut file = std::fs::File::create(folder.join("fsync"))?;
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < Duration::from_millis(500) {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}
