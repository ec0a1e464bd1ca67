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
         GRANT UPDATE (seats) ON licenses TO administrator;
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
    let refused = session.try_texts("UPDATE licenses SET seats = 11").await;
    let expected = "refused: 23514 licenses_seats_within_purchased";
    story.refuses(told, expected, refused);
    let told = "The laptops' two come back to the database: he sets ten.";
    let done = session.try_texts("UPDATE licenses SET seats = 10").await;
    story.allows(told, done);
    let told = "Three more starts; two licenses were added.";
    let logins = (10..=12).map(|n| start(story, n)).collect();
    let last = story.admits_so_many(told, logins, 2).await;
    story.all_leave(DATABASE, (inside, more, last)).await;
}

/// A start of the program: a GUID of its own.
fn start(story: &Story<'_>, n: usize) -> Login {
    let login = story.cluster.login("forwarder").from("127.0.1.1");
    let guid = format!("6F9619FF-8B86-4011-B42D-00C04FC9{n:04X}");
    login.db(DATABASE).app(PRODUCT).workstation(&guid)
}
