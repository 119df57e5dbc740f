//! The form in which a blob is kept, whatever keeps it: compressed with zstd, and compared with its digest when it is read.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use super::BlobStoreError;

/// Fast rather than small: the level that zstd itself takes as its default is 3.
const LEVEL: i32 = 1;
/// What zstd adds to bytes that cannot be made smaller is less than one in 256, and this.
const PACKED_EXTRA_BYTES: u64 = 1024;

/// Writes a blob as it is kept, and gives back what it was written to.
///
/// # Errors
/// Those of the writer.
pub fn pack<W: Write>(bytes: &[u8], to: W) -> io::Result<W> {
    let mut encoder = zstd::Encoder::new(to, LEVEL)?;
    encoder.write_all(bytes)?;
    encoder.finish()
}

/// The most that a blob of so many bytes has when it is kept, in bytes.
pub fn packed_bytes_max(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 256).saturating_add(PACKED_EXTRA_BYTES)
}

/// Reads a blob of `bytes` bytes back. `place` is where it comes from, for messages.
///
/// # Errors
/// It is not what was put in.
pub fn unpack(digest: &str, bytes: u64, from: impl Read, place: &str) -> Result<Vec<u8>, BlobStoreError> {
    let damaged = |reason: String| BlobStoreError::Damaged { place: place.to_owned(), reason };
    let mut found = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    let decoder = zstd::Decoder::new(from).map_err(|e| damaged(e.to_string()))?;
    // One byte more than there should be tells that there is more.
    decoder.take(bytes.saturating_add(1)).read_to_end(&mut found).map_err(|e| damaged(e.to_string()))?;
    let length = found.len() as u64;
    if length != bytes {
        return Err(damaged(format!("it has {length} bytes or more, {bytes} were put in")));
    }
    if hex::encode(Sha256::digest(&found)) != digest {
        return Err(damaged("its SHA-256 is another one".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_made_smaller_stays_below_the_bound() {
        // Digests of digests: as good as random.
        let mut block = Sha256::digest(b"seed");
        let mut noise = Vec::new();
        while noise.len() < 300_000 {
            noise.extend_from_slice(&block);
            block = Sha256::digest(block);
        }
        for bytes in [0, 1, 300, noise.len()] {
            let packed = pack(&noise[..bytes], Vec::new()).unwrap().len() as u64;
            assert!(packed <= packed_bytes_max(bytes as u64), "{bytes} bytes have {packed}");
        }
    }
}
