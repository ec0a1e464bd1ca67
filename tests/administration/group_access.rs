//! A data directory that the server's group may read (`initdb --allow-group-access`), for backups.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::util::*;

/// Returns the files of ours in the data directory, and their modes.
fn modes(cluster: &Cluster) -> Vec<(String, u32)> {
    let mut modes: Vec<_> = fs::read_dir(cluster.data_dir())
        .unwrap()
        .map(Result::unwrap)
        .filter(|file| file.file_name().to_string_lossy().starts_with("pg_seats"))
        .map(|file| {
            let mode = file.metadata().unwrap().permissions().mode();
            (
                file.file_name().to_string_lossy().into_owned(),
                mode & 0o777,
            )
        })
        .collect();
    modes.sort();
    modes
}

async fn with_record(cluster: &Cluster) {
    let vendor = Vendor::aptora();
    cluster.write("vendor.json", &vendor.key_file());
    cluster.install(&vendor.license_for(cluster, 2));
    cluster
        .until_recorded(|record| record["licenses"][0]["jti"] == "TOM-4711")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_group_reads_what_it_may_read_of_all_else() {
    for (group, mode) in [(false, 0o600), (true, 0o640)] {
        let builder = Cluster::builder();
        let builder = if group {
            builder.group_access()
        } else {
            builder
        };
        let cluster = builder.with_key_of(&Vendor::aptora());
        with_record(&cluster).await;
        let modes = modes(&cluster);
        let names: Vec<&str> = modes.iter().map(|(name, _)| name.as_str()).collect();
        assert!(names.contains(&"pg_seats.key"), "{names:?}");
        assert!(names.contains(&"pg_seats.key.record"), "{names:?}");
        assert!(modes.iter().all(|(_, found)| *found == mode), "{modes:?}");
        if group && nix::unistd::geteuid().is_root() {
            // A member of the group who is not the server's user.
            let mut tar = Command::new("setpriv");
            tar.args([
                "--reuid=65534",
                "--regid=postgres",
                "--clear-groups",
                "tar",
                "-C",
            ])
            .arg(cluster.data_dir())
            .args([
                "-cf",
                "/dev/null",
                "pg_seats.key",
                "pg_seats.key.record",
                "PG_VERSION",
            ]);
            run(&mut tar, "").ok();
        }
    }
}
