//! Cargo Office's rule: each start of the program claims one license.

use crate::story::Story;
use crate::util::Login;

const PRODUCT: &str = "Cargo Office";
const DATABASE: &str = "cargo";

/// Plays all of it.
pub async fn tell(story: &mut Story<'_>) {
    story.cluster.sql("CREATE DATABASE cargo");
    story
        .cluster
        .sql("CREATE ROLE forwarder LOGIN; CREATE ROLE administrator LOGIN");
    story.chapter(
        "Cargo Office: one license a start",
        "Each start of the program claims one license. So the program sends a new GUID as its\n\
         workstation at every start. The firm owns ten licenses; two are on stand-alone laptops,\n\
         which leaves eight for the common database. Its administrator may change how many.",
    );
    story.runs(
        DATABASE,
        "CREATE EXTENSION pg_seats;
         INSERT INTO licenses (product, seats, purchased) VALUES ('Cargo Office', 8, 10);
         GRANT EXECUTE ON FUNCTION license_raise_seats, license_reduce_seats, license_terminate
            TO administrator;
         INSERT INTO license_exemptions VALUES ('role', 'administrator', 'works on no cargo');",
    );
    let mut inside = vec![start(story, 1).open().await.ok()];
    inside.push(start(story, 2).open().await.ok());
    let told = "A forwarder starts Cargo Office twice at one computer: two licenses.";
    story.counts(told, DATABASE, PRODUCT, 2);
    let told = "Six more starts, by the same user at the same computer.";
    let logins = (3..=8).map(|n| start(story, n)).collect();
    let more = story.admits_so_many(told, logins, 6).await;
    let ninth = start(story, 9);
    let told = "The ninth start.";
    story.denies(told, ninth.clone(), PRODUCT).await;
    drop(inside.pop());
    let told = "One of the eight is closed, and the ninth tries again at once.";
    inside.push(story.admits_at_once(told, ninth).await);

    let administrator = story.cluster.login("administrator").from("127.0.1.9");
    let told = "The administrator logs in, although all eight licenses are in use: exempt.";
    let Some(session) = story.admits(told, administrator.db(DATABASE)).await else {
        return;
    };
    let told = "He tries to set eleven licenses; the firm owns ten.";
    let set = |seats| format!("SELECT license_raise_seats('Cargo Office', {seats})");
    let refused = session.try_texts(&set(11)).await;
    story.refuses(told, "refused: 22023", refused);
    let told = "The laptops' two come back to the database: he sets ten.";
    let done = session.try_texts(&set(10)).await;
    story.allows(told, done);
    let told = "Three more starts; two licenses were added.";
    let logins = (10..=12).map(|n| start(story, n)).collect();
    let mut last = story.admits_so_many(told, logins, 2).await;
    if let Some(latest) = last.pop() {
        let told = "In the list of active users he clicks on the latest, and on \"Stop session\".";
        let stop = "SELECT license_terminate(seat_id, 'The office closes')
                      FROM license_active_seats ORDER BY opened_at DESC LIMIT 1";
        story.allows(told, session.try_texts(stop).await);
        let told = "The program that was stopped reads why.";
        story
            .ends(told, "FATAL 57P01 license_stopped", latest)
            .await;
        let told = "A new user is allowed to log on.";
        last.extend(story.admits_at_once(told, start(story, 13)).await);
    }
    story.runs(
        DATABASE,
        "-- In the office it is an hour; nobody wants to wait that long here.
         UPDATE licenses SET idle_timeout = '1 second';",
    );
    if let Some(idle) = last.pop() {
        let told = "Nobody works any more: all are logged off automatically.";
        story.ends(told, "FATAL 57P05 license_idle", idle).await;
    }
    story.all_leave(DATABASE, (inside, more, last)).await;
}

/// Returns a start of the program: a GUID of its own.
fn start(story: &Story<'_>, n: usize) -> Login {
    let login = story.cluster.login("forwarder").from("127.0.1.1");
    let guid = format!("6F9619FF-8B86-4011-B42D-00C04FC9{n:04X}");
    login.db(DATABASE).app(PRODUCT).workstation(&guid)
}
