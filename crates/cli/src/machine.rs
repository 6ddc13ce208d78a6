//! What this computer has: processor, cores, memory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Memory of this process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MachineMemory {
    /// The least of physical memory, every cgroup limit above this process and its limit of address space.
    pub total_bytes: u64,
    /// What can be taken now without swapping or passing a limit.
    pub available_bytes: u64,
}

/// Reads the memory of this machine and the limits of this process.
pub fn memory() -> Result<MachineMemory> {
    let meminfo = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let physical = MachineMemory {
        total_bytes: bytes_of(&meminfo, "MemTotal").context("/proc/meminfo has no MemTotal")?,
        available_bytes: bytes_of(&meminfo, "MemAvailable")
            .context("/proc/meminfo has no MemAvailable")?,
    };
    let [groups, limits, status] = ["cgroup", "limits", "status"]
        .map(|file| fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default());
    let memory = within_groups(physical, &groups, Path::new("/sys/fs/cgroup"));
    Ok(within_address_space(memory, &limits, &status))
}

/// `AMD EPYC, 2 cores, 24.0 GiB`: what a report calls this machine.
pub fn description(memory: MachineMemory) -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown processor", |(_, name)| name.trim());
    let gib = memory.total_bytes as f64 / f64::from(1 << 30);
    let cores = cores();
    let noun = if cores == 1 { "core" } else { "cores" };
    format!("{processor}, {cores} {noun}, {gib:.1} GiB")
}

/// Cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A number of a file such as `/proc/meminfo`, in bytes.
fn bytes_of(file: &str, key: &str) -> Option<u64> {
    let line = file.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Narrows `memory` by the limits of every group on the way from the process to the root.
///
/// `groups` is `/proc/self/cgroup`: `0::/a/b` for version 2, `5:memory:/a/b` for version 1.
fn within_groups(mut memory: MachineMemory, groups: &str, mount: &Path) -> MachineMemory {
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, limit, usage) = if controllers.is_empty() {
            (mount.to_path_buf(), "memory.max", "memory.current")
        } else if controllers.split(',').any(|controller| controller == "memory") {
            (mount.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            continue;
        };
        for group in ancestors(&root, path) {
            let Some(most) = read_number(&group.join(limit)) else { continue };
            let used = read_number(&group.join(usage)).unwrap_or(0);
            // The files it has read count as used and are given back on demand.
            let used = used.saturating_sub(file_cache_bytes(&group.join("memory.stat")));
            memory.total_bytes = memory.total_bytes.min(most);
            memory.available_bytes = memory.available_bytes.min(most.saturating_sub(used));
        }
    }
    memory
}

/// Narrows `memory` by the most address space that the process may have (`ulimit -v`), of which it has some.
/// The texts are `/proc/self/limits` and `/proc/self/status`.
fn within_address_space(memory: MachineMemory, limits: &str, status: &str) -> MachineMemory {
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max address space"));
    let most = soft.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let Some(most) = most else { return memory };
    let used = bytes_of(status, "VmSize").unwrap_or(0);
    MachineMemory {
        total_bytes: memory.total_bytes.min(most),
        available_bytes: memory.available_bytes.min(most.saturating_sub(used)),
    }
}

/// The folders of a group and of all groups above it. Inside a container the path may not exist
/// below the mount; the mount itself is then the container's group.
fn ancestors(root: &Path, path: &str) -> Vec<PathBuf> {
    let mut groups = vec![root.to_path_buf()];
    let mut group = root.to_path_buf();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != "..") {
        group.push(part);
        groups.push(group.clone());
    }
    groups
}

/// A file's number; none if it is missing or says `max`.
fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Bytes of cached files in a group's `memory.stat`, those of the groups below it included.
fn file_cache_bytes(stat: &Path) -> u64 {
    let stat = fs::read_to_string(stat).unwrap_or_default();
    let sum = |keys: [&str; 2]| {
        let values = stat.lines().filter_map(|line| line.split_once(' '));
        let wanted = values.filter(|(key, _)| keys.contains(key));
        wanted.filter_map(|(_, value)| value.parse::<u64>().ok()).sum::<u64>()
    };
    // Version 1 says both what is the group's own and, as `total_`, the sum with those below.
    match sum(["total_inactive_file", "total_active_file"]) {
        0 => sum(["inactive_file", "active_file"]),
        total => total,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: MachineMemory = MachineMemory { total_bytes: 1000, available_bytes: 900 };

    fn group(mount: &Path, path: &str, files: &[(&str, &str)]) {
        let folder = mount.join(path);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_least_limit_on_the_way_to_the_root_counts() {
        let mount = tempfile::tempdir().unwrap();
        group(mount.path(), "a", &[("memory.max", "500\n"), ("memory.current", "200\n")]);
        group(mount.path(), "a/b", &[("memory.max", "max\n"), ("memory.current", "100\n")]);
        let narrowed = within_groups(FREE, "0::/a/b\n", mount.path());
        assert_eq!(narrowed, MachineMemory { total_bytes: 500, available_bytes: 300 });
    }

    #[test]
    fn version_1_limits_count_too() {
        let mount = tempfile::tempdir().unwrap();
        group(mount.path(), "memory/job", &[("memory.limit_in_bytes", "700")]);
        let narrowed = within_groups(FREE, "3:cpu:/x\n5:memory,hugetlb:/job\n", mount.path());
        assert_eq!(narrowed, MachineMemory { total_bytes: 700, available_bytes: 700 });
    }

    #[test]
    fn cached_files_are_not_in_the_way() {
        let mount = tempfile::tempdir().unwrap();
        let stat = "anon 100\ninactive_file 150\nactive_file 50\n";
        let files = [("memory.max", "500"), ("memory.current", "300"), ("memory.stat", stat)];
        group(mount.path(), "a", &files);
        assert_eq!(within_groups(FREE, "0::/a\n", mount.path()).available_bytes, 400);
        let stat = "inactive_file 7\ntotal_inactive_file 150\ntotal_active_file 50\n";
        group(mount.path(), "a", &[("memory.stat", stat)]);
        assert_eq!(within_groups(FREE, "0::/a\n", mount.path()).available_bytes, 400);
    }

    #[test]
    fn no_limit_leaves_the_physical_memory() {
        let mount = tempfile::tempdir().unwrap();
        assert_eq!(within_groups(FREE, "0::/gone\n", mount.path()), FREE);
        assert_eq!(within_groups(FREE, "", mount.path()), FREE);
    }

    #[test]
    fn a_limit_of_address_space_counts_and_what_is_taken_of_it() {
        let limits = |soft: &str| {
            format!("Limit  Soft Limit\nMax address space         {soft}     unlimited    bytes\n")
        };
        let status = "Name:\tmillrace\nVmSize:\t       1 kB\n";
        let free = MachineMemory { total_bytes: 10_000, available_bytes: 9000 };
        let narrowed = |soft: &str| within_address_space(free, &limits(soft), status);
        assert_eq!(narrowed("unlimited"), free);
        assert_eq!(narrowed("99999"), free);
        assert_eq!(narrowed("5000"), MachineMemory { total_bytes: 5000, available_bytes: 3976 });
        assert_eq!(narrowed("1000").available_bytes, 0);
    }

    #[test]
    fn this_machine_has_memory() {
        let memory = memory().unwrap();
        assert!(0 < memory.available_bytes && memory.available_bytes <= memory.total_bytes);
        assert!(description(memory).contains("GiB"));
    }
}
