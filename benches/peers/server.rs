//! A peer as a process of its own, and what the processes of a server take of the machine.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Failure;
use crate::router;

/// A running server of `scripts/peer`. It ends with this.
#[derive(Debug)]
pub(crate) struct Server {
    script: Child,
    pub(crate) port: u16,
    pub(crate) pid: u32,
    /// Where its files are, until it has ended.
    _folder: tempfile::TempDir,
}

impl Server {
    /// Starts one with its files below `dir`.
    pub(crate) fn start(peer: &str, dir: &Path) -> Result<Self, Failure> {
        let folder = tempfile::Builder::new().prefix("peer-").tempdir_in(dir)?;
        // As root, the script runs some of them as another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/peer"))
            .arg(peer)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = script.stdout.take().ok_or("stdout is a pipe")?;
        // Owned from here on, so that it ends if it does not say where it is.
        let mut server = Self { script, port: 0, pid: 0, _folder: folder };
        for line in BufReader::new(stdout).lines() {
            match line?.split_once(' ') {
                Some(("port", port)) => server.port = port.parse()?,
                Some(("pid", pid)) => server.pid = pid.parse()?,
                _ => {}
            }
        }
        if server.pid == 0 { Err(format!("there is no {peer}: see above").into()) } else { Ok(server) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        // It has ended, however it ended.
        let _ = self.script.wait();
    }
}

/// The processes of a server: each of these and all below it.
#[derive(Clone, Debug)]
pub(crate) struct Processes(pub(crate) Vec<u32>);

impl Processes {
    /// The CPU time of all of them so far, and of those that have ended.
    pub(crate) fn cpu_time(&self) -> Result<Duration, Failure> {
        let all = all_processes()?;
        Ok(self.tree(&all).filter_map(cpu_time).sum())
    }

    /// The most memory that they had, in KiB: that of the largest, and of the others what they share with nobody.
    pub(crate) fn peak_kib(&self) -> Result<u32, Failure> {
        let all = all_processes()?;
        let (mut largest, mut private) = (Vec::new(), 0);
        for pid in self.tree(&all) {
            let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
            let own = kib(&status, "RssAnon:");
            private += own;
            largest.push(kib(&status, "VmHWM:").saturating_sub(own));
        }
        Ok(private + largest.into_iter().max().unwrap_or_default())
    }

    fn tree<'a>(&'a self, all: &'a [(u32, u32)]) -> impl Iterator<Item = u32> + 'a {
        let mut tree = self.0.clone();
        let mut at = 0;
        while let Some(&parent) = tree.get(at) {
            tree.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        tree.into_iter()
    }
}

/// The processes of the Postgres server that this connection is to.
pub(crate) async fn of_postgres(url: &str) -> Result<u32, Failure> {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(url).await?;
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
    let backend = u32::try_from(backend)?;
    let parent = all_processes()?.into_iter().find(|(pid, _)| *pid == backend).map(|(_, parent)| parent);
    connection.close().await?;
    parent.ok_or_else(|| "the Postgres server is not on this machine".into())
}

/// The CPU time of a process, if it still lives, and of those that it has started and that have ended.
fn cpu_time(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let times = stat.rsplit_once(") ")?.1.split(' ').skip(11).take(4);
    Some(router::TICK * times.map(str::parse::<u32>).sum::<Result<_, _>>().ok()?)
}

/// Each process and its parent.
fn all_processes() -> Result<Vec<(u32, u32)>, Failure> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
    };
    let pids = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter_map(|pid| Some((pid, parent(pid)?))).collect())
}

/// A figure of `/proc/…/status`.
fn kib(status: &str, name: &str) -> u32 {
    let figure = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
    figure.and_then(|figure| figure.trim().parse().ok()).unwrap_or_default()
}

/// The memory of a process now, in KiB.
pub(crate) fn memory_kib(pid: u32) -> Result<u32, Failure> {
    Ok(kib(&fs::read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:"))
}
