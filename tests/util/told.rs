//! Statements that are sent in just the moment in which their session may be ended.

use std::sync::Mutex;

use super::session::Session;

/// What clients were told of rows that they inserted into table `done`, a statement for each.
#[derive(Default)]
pub struct Told {
    done: Mutex<Vec<String>>,
    ended: Mutex<Vec<String>>,
}

impl Told {
    /// Creates a table, which everybody may insert into. Whoever begins to leaves a trace that no rollback takes away.
    pub async fn with_table(admin: &Session) -> Self {
        admin
            .run(
                "CREATE TABLE done (who text, begun bigserial);
                 GRANT INSERT ON done TO PUBLIC; GRANT USAGE ON SEQUENCE done_begun_seq TO PUBLIC",
            )
            .await;
        Self::default()
    }

    /// Runs a statement. False where the session was logged off instead.
    pub async fn runs(session: &Session, statement: &str) -> bool {
        let answer = session.try_texts(statement).await;
        if let Err(denied) = &answer {
            // The server's words may be lost with the connection.
            let sqlstate = &*denied.sqlstate;
            assert!(["57P05", ""].contains(&sqlstate), "{denied:?}");
        }
        answer.is_ok()
    }

    /// Runs a statement that inserts this row. False where the session was logged off instead.
    pub async fn is_done(&self, session: &Session, who: String, statement: &str) -> bool {
        let runs = Self::runs(session, statement).await;
        let told = if runs { &self.done } else { &self.ended };
        told.lock().unwrap().push(who);
        runs
    }

    /// Tells how many statements are done so far.
    pub fn done(&self) -> usize {
        self.done.lock().unwrap().len()
    }

    /// Tells how many found their session ended so far.
    pub fn ended(&self) -> usize {
        self.ended.lock().unwrap().len()
    }

    /// Fails unless the table has each row that is done, once, and no other, and none was begun that is not
    /// done.
    pub async fn assert_true(&self, admin: &Session) {
        let rows = async |who: &Mutex<Vec<String>>| {
            let who = who.lock().unwrap().join(",");
            let rows = format!(
                "SELECT count(*), count(DISTINCT who) FROM done
                  WHERE who = ANY (string_to_array('{who}', ','))"
            );
            admin.text(&rows).await
        };
        assert_eq!(rows(&self.done).await, format!("{0}|{0}", self.done()));
        assert_eq!(rows(&self.ended).await, "0|0", "of {}", self.ended());
        let begun = admin.text("SELECT last_value FROM done_begun_seq").await;
        assert_eq!(begun, self.done().to_string());
    }
}
