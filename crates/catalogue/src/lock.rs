//! Locks on files, by `flock`: of all processes and threads that take one, one is at work.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::Error;
use crate::progress::Progress;

/// A lock that is held until it is dropped. The system drops it when this process is killed.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the lock of the file at `path`, which is made if it is not there. Says so if it has to wait.
    pub fn take(path: &Path, say: &mut dyn FnMut(Progress)) -> Result<Self, Error> {
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(Error::io("create", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                say(Progress::Waiting);
                file.lock().map_err(Error::io("lock", path))?;
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
        }
        Ok(Self(file))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would leave the lock to a process that another thread is starting: until that
        // runs its program, it has all files of this one.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_at_once_also_if_somebody_else_has_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let lock = Lock::take(&path, &mut |step| panic!("{step:?}")).unwrap();
        // As a process has it that is being started.
        let inherited = lock.0.try_clone().unwrap();
        let try_lock = || File::open(&path).unwrap().try_lock();
        assert!(matches!(try_lock(), Err(TryLockError::WouldBlock)));
        drop(lock);
        assert!(try_lock().is_ok());
        drop(inherited);
    }
}
