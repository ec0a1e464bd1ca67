//! The last moments of a session: its seat is free before all else that its end brings, and what it was told
//! is told to nobody after it.

use std::fs;
use std::time::Duration;

use crate::util::*;

/// The promise: a seat is free so soon after its last holder's end.
const SOON: Duration = Duration::from_secs(1);

/// How a session ends that is in with a program of its own.
#[derive(Clone, Copy, Debug)]
enum End {
    Goodbye,
    ClientKilled,
    Terminated,
    Fatal,
}

impl Desk {
    /// Tells whether a process of the server's is there.
    fn is_there(&self, pid: i32) -> bool {
        is_alive(pid)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seat_is_free_before_temporary_tables_are_dropped() {
    let desk = Desk::licensed("seats", "1").await;
    for end in [End::Goodbye, End::ClientKilled, End::Terminated, End::Fatal] {
        let login = desk.at("anna", "127.0.0.1");
        let mut anna = login.process();
        let pid = anna.backend_pid();
        // The table is dropped only when nobody reads it; it was made by the last transaction.
        anna.ask("BEGIN; CREATE TEMP TABLE draft (); COMMIT; SELECT 1;");
        desk.admin
            .run(
                "BEGIN;
                 DO $$ BEGIN
                     EXECUTE (SELECT format('LOCK TABLE %s IN ACCESS SHARE MODE', oid::regclass)
                                FROM pg_class WHERE relname = 'draft');
                 END $$",
            )
            .await;
        assert_eq!(desk.in_use().await, 1);
        match end {
            End::Goodbye => anna.send("\\q"),
            End::ClientKilled => anna.kill9(),
            End::Terminated => {
                let terminate = format!("SELECT pg_terminate_backend({pid})");
                desk.admin.run(&terminate).await;
            }
            End::Fatal => {
                anna.send("SET idle_session_timeout = 1;");
            }
        }
        eventually(&format!("the seat is free: {end:?}"), SOON, async || {
            desk.in_use().await == 0
        })
        .await;
        let bert = desk.user("bert").await;
        assert!(desk.is_there(pid), "{end:?}");
        desk.admin.run("COMMIT").await;
        eventually("the table is dropped", PATIENCE, async || {
            !desk.is_there(pid)
        })
        .await;
        // What is left of its end takes nothing from others.
        assert_eq!(desk.in_use().await, 1);
        bert.close().await;
        eventually("nobody is in", PATIENCE, async || desk.in_use().await == 0).await;
    }
}

/// Tells whether the next process of the server's gets this number, if nobody is quicker.
fn next_process(pid: i32) -> bool {
    fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gets_the_process_id_of_one_who_was_stopped_is_no_stopped_session() {
    let desk = Desk::licensed("seats, idle_timeout", "9, '1s'").await;
    let stop = "SELECT count(license_terminate(seat_id)) FROM license_active_seats
                 WHERE usename = 'anna'";
    for _ in 0..40 {
        let anna = desk.user("anna").await;
        let pid = anna.pid().await;
        assert_eq!(desk.admin.text(stop).await, "1");
        anna.ended().await.assert("57P01", "license_stopped");
        eventually("it has ended", PATIENCE, async || !is_alive(pid)).await;
        if !next_process(pid) {
            return skipped("process ids can't be chosen here");
        }
        let bert = desk.user("bert").await;
        if bert.pid().await == pid {
            let ended = bert.ended().await;
            ended.assert("57P05", "license_idle");
            return;
        }
        bert.close().await;
    }
    skipped("others are quicker to get the process id");
}
