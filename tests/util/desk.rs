//! A licensed server and its administrator: who holds a seat, and who waits in the queue.

use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::cluster::Cluster;
use super::denied::Denied;
use super::licensed::STAFF;
use super::login::Login;
use super::session::Session;
use super::wait::{PATIENCE, eventually};

/// A server, and the administrator who looks.
pub struct Desk {
    pub admin: Session,
    pub cluster: Cluster,
}

impl Desk {
    /// Opens a desk with so many seats of "TOM", which only applications claim.
    pub async fn with_seats(seats: u32) -> Self {
        Self::licensed("claimed_at, seats", &format!("'checkout', {seats}")).await
    }

    /// Opens a desk with this row of `licenses`.
    pub async fn licensed(columns: &str, values: &str) -> Self {
        Self::of(Cluster::builder().licensed(columns, values)).await
    }

    pub async fn of(cluster: Cluster) -> Self {
        let admin = cluster.login("postgres").open_ok().await;
        Self { admin, cluster }
    }

    /// Returns the login of this user at this computer.
    pub fn at(&self, user: &str, host: &str) -> Login {
        self.cluster.login(user).from(host)
    }

    /// Returns the login of one of the staff at a computer of their own.
    pub fn login(&self, user: &str) -> Login {
        let number = STAFF.iter().position(|name| *name == user).unwrap() + 1;
        self.at(user, &format!("127.0.1.{number}"))
    }

    /// Logs in one of the staff.
    #[track_caller]
    pub fn user(&self, user: &str) -> impl Future<Output = Session> + Send + use<> {
        self.login(user).open_ok()
    }

    /// Makes it two seats, and holds a lock on the table from that moment on, so that nobody has
    /// read of it.
    pub async fn change_and_lock(&self) -> Session {
        let locker = self.cluster.login("postgres").open_ok().await;
        self.admin
            .run("BEGIN; UPDATE licenses SET seats = 2 WHERE product = 'TOM'")
            .await;
        let locked = tokio::spawn(async move {
            locker.run("BEGIN; LOCK TABLE licenses").await;
            locker
        });
        eventually("the lock is next", PATIENCE, async || {
            let next = "SELECT count(*) FROM pg_locks
                         WHERE NOT granted AND relation = 'licenses'::regclass";
            self.admin.val::<i64>(next).await == 1
        })
        .await;
        self.admin.run("COMMIT").await;
        locked.await.unwrap()
    }

    pub async fn in_use(&self) -> i32 {
        let in_use = "SELECT in_use FROM license_usage WHERE product = 'TOM'";
        self.admin.val(in_use).await
    }

    pub async fn waiting(&self) -> i32 {
        let waiting = "SELECT waiting FROM license_usage WHERE product = 'TOM'";
        self.admin.val(waiting).await
    }

    pub async fn denied(&self) -> i64 {
        let denied = "SELECT denied FROM license_usage WHERE product = 'TOM'";
        self.admin.val(denied).await
    }

    /// Waits until so many seats are in use.
    pub async fn in_use_becomes(&self, seats: i32) {
        let what = format!("{seats} seats are in use");
        eventually(&what, PATIENCE, async || self.in_use().await == seats).await;
    }

    /// Waits until so many wait in the queue.
    pub async fn waiting_becomes(&self, waiting: i32) {
        let what = format!("{waiting} wait in the queue");
        eventually(&what, PATIENCE, async || self.waiting().await == waiting).await;
    }

    /// Makes the session wait last in the queue for a seat of "TOM".
    pub async fn enqueue(&self, session: Session) -> Waiter {
        let patience = "license_checkout('TOM', wait => '10min')";
        self.enqueue_with(session, &format!("SELECT seat_id FROM {patience}"))
            .await
    }

    /// Makes it wait with this statement.
    pub async fn enqueue_with(&self, session: Session, statement: &str) -> Waiter {
        let waiting = self.waiting().await;
        let pid = session.pid().await;
        let statement = statement.to_owned();
        let turn = tokio::spawn(async move {
            let answer = session.try_texts(&statement).await;
            (session, answer)
        });
        self.waiting_becomes(waiting + 1).await;
        Waiter { pid, turn }
    }
}

/// A session that wait in the queue.
pub struct Waiter {
    pub pid: i32,
    turn: JoinHandle<(Session, Result<Vec<String>, Denied>)>,
}

impl Waiter {
    /// Tells whether it still waits.
    pub fn waits(&self) -> bool {
        !self.turn.is_finished()
    }

    /// Waits for what its statement returns, or is refused.
    #[track_caller]
    pub fn answer(
        self,
    ) -> impl Future<Output = (Session, Result<Vec<String>, Denied>)> + Send + use<> {
        let caller = std::panic::Location::caller();
        async move {
            let answer = timeout(PATIENCE, self.turn).await;
            answer
                .unwrap_or_else(|_| panic!("{caller}: no answer within {PATIENCE:?}"))
                .unwrap()
        }
    }

    /// Asserts that it gets a seat.
    #[track_caller]
    pub fn seated(self) -> impl Future<Output = Session> + Send + use<> {
        let (answer, caller) = (self.answer(), std::panic::Location::caller());
        async move {
            let (session, answer) = answer.await;
            answer.unwrap_or_else(|denied| panic!("{caller}: {denied:#?}"));
            session
        }
    }

    /// Asserts that it gets none.
    #[track_caller]
    pub fn refused(self) -> impl Future<Output = (Session, Denied)> + Send + use<> {
        let (answer, caller) = (self.answer(), std::panic::Location::caller());
        async move {
            match answer.await {
                (session, Err(denied)) => (session, denied),
                (_, Ok(row)) => panic!("{caller}: got a seat: {row:?}"),
            }
        }
    }
}

/// Of the only product, or the one that the login claimed.
impl Session {
    /// Takes a seat, which must be free; its id, empty where it is exempt.
    pub async fn checkout(&self) -> String {
        self.text("SELECT seat_id FROM license_checkout()").await
    }

    /// Takes a seat if one is free.
    pub async fn try_checkout(&self) -> bool {
        let seats = "SELECT product FROM license_try_checkout()";
        !self.texts(seats).await.is_empty()
    }

    /// Gives a checkout back; false if there was none.
    pub async fn checkin(&self) -> bool {
        self.val("SELECT license_checkin()").await
    }

    /// Sends a statement and doesn't wait for its answer.
    pub async fn send(&self, statement: &str) {
        let sent = timeout(std::time::Duration::ZERO, self.try_texts(statement));
        assert!(sent.await.is_err(), "{statement} has ended at once");
    }
}
