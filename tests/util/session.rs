//! An open connection.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::types::FromSqlOwned;
use tokio_postgres::{AsyncMessage, Client, Connection, Error, SimpleQueryMessage};

use super::denied::{Denied, Report};
use super::wait::PATIENCE;

/// A session; the methods of [`Client`] are there too. Dropping it logs out.
#[derive(Debug)]
pub struct Session {
    client: Client,
    connection: JoinHandle<Result<(), Error>>,
    notices: Arc<Mutex<Vec<Report>>>,
    notifications: Arc<Mutex<Vec<(String, String)>>>,
}

impl Session {
    pub(super) fn new<S, T>((client, mut connection): (Client, Connection<S, T>)) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&notices);
        let notifications = Arc::new(Mutex::new(Vec::new()));
        let notified = Arc::clone(&notifications);
        let connection = tokio::spawn(async move {
            while let Some(message) = poll_fn(|context| connection.poll_message(context))
                .await
                .transpose()?
            {
                match message {
                    AsyncMessage::Notice(notice) => heard
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(Report::from(&notice)),
                    AsyncMessage::Notification(said) => notified
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((said.channel().to_owned(), said.payload().to_owned())),
                    _ => {}
                }
            }
            Ok(())
        });
        Self {
            client,
            connection,
            notices,
            notifications,
        }
    }

    /// Returns the first column of the only row, as this type.
    pub async fn val<T: FromSqlOwned>(&self, sql: &str) -> T {
        // Unnamed: closing a named statement would be under way when a session is ended, and swallow the server's words.
        let row = self.client.query_typed_one(sql, &[]).await;
        row.map(|row| row.get(0))
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    /// Returns the only row as psql would show it: fields separated by `|`, null as nothing.
    pub async fn text(&self, sql: &str) -> String {
        let mut rows = self.texts(sql).await;
        assert_eq!(rows.len(), 1, "{sql}: {rows:?}");
        rows.remove(0)
    }

    /// Returns all rows as psql would show them.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        self.try_texts(sql)
            .await
            .unwrap_or_else(|denied| panic!("{sql}: {denied:#?}"))
    }

    /// Returns all rows as psql would show them, or the refusal.
    pub async fn try_texts(&self, sql: &str) -> Result<Vec<String>, Denied> {
        let messages = match self.client.simple_query(sql).await {
            Ok(messages) => messages,
            Err(error) => {
                // The words of an error come before its transaction has ended.
                let _ = self.client.simple_query("").await;
                return Err(error.into());
            }
        };
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows
            .map(|row| {
                (0..row.len())
                    .map(|i| row.get(i).unwrap_or_default())
                    .collect::<Vec<_>>()
                    .join("|")
            })
            .collect())
    }

    /// Runs statements, which must succeed.
    pub async fn run(&self, sql: &str) {
        self.texts(sql).await;
    }

    /// Runs statements, which must fail.
    pub async fn fails(&self, sql: &str) -> Denied {
        match self.try_texts(sql).await {
            Ok(rows) => panic!("{sql} succeeded: {rows:?}"),
            Err(denied) => denied,
        }
    }

    /// Returns the process that serves it.
    pub async fn pid(&self) -> i32 {
        self.val("SELECT pg_backend_pid()").await
    }

    /// Returns the notices and warnings so far.
    pub fn notices(&self) -> Vec<Report> {
        self.notices
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns channel and payload of what was notified so far.
    pub fn notifications(&self) -> Vec<(String, String)> {
        self.notifications
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Logs out; the server may need a moment more.
    pub async fn close(self) {
        let Self {
            client, connection, ..
        } = self;
        drop(client);
        // A server that is gone already is as good.
        let _ = connection.await;
    }

    /// Drops the connection without a word, as a crashed client does.
    pub async fn abort(self) {
        self.connection.abort();
        let _ = self.connection.await;
    }

    /// Waits until the server ends it, and returns the server's last words to the idle session.
    pub async fn ended(self) -> Denied {
        match timeout(PATIENCE, self.connection).await {
            Ok(Ok(Err(error))) => error.into(),
            Ok(Ok(Ok(()))) => Denied::unheard("closed without a word"),
            Ok(Err(failed)) => panic!("{failed}"),
            Err(_) => panic!("not within {PATIENCE:?}: the server ends the session"),
        }
    }

    /// Tells whether the connection is gone.
    pub fn is_ended(&self) -> bool {
        self.connection.is_finished()
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
