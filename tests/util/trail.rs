//! The audit trail of a server.

use super::*;
use std::ops::Deref;
use std::time::{Duration, Instant};

/// What happens is written so soon, on a slow machine too.
pub const SOON: Duration = Duration::from_secs(5);

/// A desk whose administrator reads the trail.
pub struct Trail {
    pub desk: Desk,
}

impl Deref for Trail {
    type Target = Desk;

    fn deref(&self) -> &Desk {
        &self.desk
    }
}

impl Trail {
    /// Opens a trail with this row of `licenses`, beside the product.
    pub async fn of(columns: &str, values: &str) -> Trail {
        Self::at(Cluster::builder().licensed(columns, values)).await
    }

    pub async fn at(cluster: Cluster) -> Trail {
        let desk = Desk::of(cluster).await;
        Trail { desk }
    }

    /// Returns what the trail has of others than the administrator, in this form, in its order.
    pub async fn rows(&self, form: &str) -> Vec<String> {
        let rows = format!(
            "SELECT {form} FROM license_events
              WHERE usename IS DISTINCT FROM 'postgres' ORDER BY at, ctid"
        );
        self.admin.texts(&rows).await
    }

    /// Waits until the trail has these rows of others than the administrator, in this form.
    pub async fn becomes(&self, form: &str, expected: &[&str]) {
        shown_in_the_end(form, expected, async || self.rows(form).await).await;
    }

    /// Waits until this one row is what a query returns.
    pub async fn shows(&self, query: &str, expected: &str) {
        shown_in_the_end(query, &[expected], async || self.admin.texts(query).await).await;
    }
}

/// Waits as [`eventually`] does, and shows what there was instead.
pub async fn shown_in_the_end(what: &str, expected: &[&str], rows: impl AsyncFn() -> Vec<String>) {
    let start = Instant::now();
    loop {
        let rows = rows().await;
        if rows == expected {
            return;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: {rows:#?}, not {expected:#?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until this many were notified; channel and payload of each.
pub async fn notified(session: &Session, number: usize) -> Vec<String> {
    eventually("it is notified", PATIENCE, async || {
        session.notifications().len() >= number
    })
    .await;
    let heard = session.notifications();
    assert_eq!(heard.len(), number, "{heard:?}");
    assert!(heard.iter().all(|(channel, _)| channel == "pg_seats"));
    heard.into_iter().map(|(_, payload)| payload).collect()
}
