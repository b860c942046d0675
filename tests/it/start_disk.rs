//! A database that cannot be written while the scheduler runs (scheduler.md §2.2).

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::support::daemon::Daemon;
use crate::support::docker::containers;
use crate::support::project::{GATE, HOOK, Project};
use crate::support::wait;

/// A small file system at a path; only root can make one.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path) -> Self {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        assert!(mount.args(["-t", "tmpfs", "-o", "size=4m,mode=0700", "none"]).arg(at).status().unwrap().success());
        Self(at.to_owned())
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [65_536, 4096] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
#[ignore = "slow: mounts a file system, which takes root"]
fn a_full_disk_refuses_work_and_loses_none_that_was_accepted() {
    let project = Project::with_settings(HOOK);
    let agent = project.on_hook("dev", "scale = 2\n");
    let disk = SmallDisk::mount(&project.root().join(".al"));
    // What is said about it has to be written somewhere.
    let _logs = SmallDisk::mount(&project.root().join(".al/logs"));
    let daemon = Daemon::start(&project);
    daemon.work("e1", &format!("echo up; {GATE}; exit 0"));
    project.wait_said(&agent, "up");
    let instance = daemon.wait_for_runs(&agent, 1).remove(0);
    let filler = disk.fill();
    // The last page may still have room for one.
    let refused = wait::until(
        "a refusal",
        || daemon.deliver("refused", &json!({"event": "e", "title": "exit 0", "body": "x".repeat(60_000)})),
        |answer| answer.status != 200,
    );
    assert_eq!((refused.status, refused.json()), (503, json!({"error": "storage unavailable"})));
    assert!(refused.header("Retry-After").is_some(), "{}", refused.head);
    daemon.wait_for("scheduler: database not writable");
    let trigger = daemon.post(&format!("/control/trigger/{agent}"), &json!({}));
    let sorry = json!({"error": "Failed to trigger agent: storage unavailable"});
    assert_eq!((trigger.status, trigger.json()), (500, sorry));
    project.open_gate(&instance);
    wait::until("the end", || project.logged(&agent, "container finished").len(), |count| *count == 1);
    // Not recorded yet: a crash would find its container.
    assert_eq!(containers(&format!("al.agent={agent}")).len(), 1);
    assert_eq!(daemon.instances(&agent), [instance]);
    fs::remove_file(filler).unwrap();
    wait::until("its record", || daemon.items("done"), |items| items.iter().any(|item| item["source"] == "e1"));
    wait::until("the good news", || project.logged("scheduler", "database writable again").len(), |count| *count == 1);
    assert_eq!(project.logged("scheduler", "database not writable").len(), 1);
    daemon.work("e2", "exit 0");
    wait::until("the next", || daemon.items("done"), |items| items.iter().any(|item| item["source"] == "e2"));
    daemon.wait_until_idle();
    daemon.stop().expect(0);
    project.assert_clean();
}
