//! Many logins at the same moment.

use std::sync::Arc;

use tokio::sync::Barrier;

use super::denied::Denied;
use super::login::Login;
use super::session::Session;

/// Opens `n` logins at once: all are connected before the first says who it is. Results are in the order of `i`.
pub async fn race(n: usize, login: impl Fn(usize) -> Login) -> Vec<Result<Session, Denied>> {
    let line = Arc::new(Barrier::new(n));
    let runners = (0..n).map(|i| {
        let (login, line) = (login(i), Arc::clone(&line));
        tokio::spawn(async move {
            let stream = login.connect().await;
            line.wait().await;
            login.start_up(stream?).await
        })
    });
    let runners: Vec<_> = runners.collect();
    let mut results = Vec::with_capacity(n);
    for runner in runners {
        results.push(runner.await.unwrap());
    }
    results
}
