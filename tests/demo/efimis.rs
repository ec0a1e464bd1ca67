//! Efimis' rules: fifty users and ten licenses, accountants who raise the count, exempt support.

use crate::story::Story;
use crate::util::{Login, Session};

const PRODUCT: &str = "Efimis";
const DATABASE: &str = "efimis";

/// Plays all of it, and returns those who are in at the end.
pub async fn tell(story: &mut Story<'_>) -> Vec<Session> {
    story.cluster.sql(
        "CREATE DATABASE efimis;
         CREATE ROLE support; CREATE ROLE sally LOGIN IN ROLE support;
         CREATE ROLE accountants; CREATE ROLE adam LOGIN IN ROLE accountants;",
    );
    for n in 1..=49 {
        story.cluster.sql(&format!("CREATE ROLE user_{n} LOGIN"));
    }
    story.chapter(
        "Efimis: fifty users, ten concurrent licenses",
        "The firm has fifty users (forty-nine and Adam, the accountant). Efimis' support staff is\n\
         exempt, and accountants may raise the count.",
    );
    story.runs(
        DATABASE,
        "CREATE EXTENSION pg_seats;
         INSERT INTO licenses (product, seats) VALUES ('Efimis', 10);
         INSERT INTO license_exemptions VALUES ('role', 'support', 'Efimis'' own staff');
         GRANT EXECUTE ON FUNCTION license_raise_seats TO accountants;
         GRANT EXECUTE ON FUNCTION license_reduce_seats TO support;",
    );
    let adam = story
        .admits("Adam logs in.", login(story, "adam", 50))
        .await;
    let told = "Then all forty-nine others try, one after the other: nine licenses are left.";
    let logins = (1..=49).map(|n| user(story, n)).collect();
    let mut inside = story.admits_so_many(told, logins, 9).await;
    let told = "User 10 is the eleventh.";
    story.denies(told, user(story, 10), PRODUCT).await;
    inside.remove(0).close().await;
    let told = "User 1 logs out, and user 10 tries again at once.";
    inside.extend(story.admits_at_once(told, user(story, 10)).await);

    let told = "Sally of Efimis' support logs in, although all licenses are in use.";
    inside.extend(story.admits(told, login(story, "sally", 99)).await);
    let told = "She takes no seat.";
    story.counts(told, DATABASE, PRODUCT, 10);

    let raise = "SELECT license_raise_seats('Efimis', 12)";
    let refused = inside[0].try_texts(raise).await;
    let told = "User 2 tries to raise the count; only accountants may.";
    story.refuses(told, "refused: 42501", refused);
    let Some(adam) = adam else { return inside };
    let told = "Adam raises it to twelve in the firm's settings.";
    story.allows(told, adam.try_texts(raise).await);
    let told = "In force at once: of the three who try now, two get in.";
    let logins = (11..=13).map(|n| user(story, n)).collect();
    inside.extend(story.admits_so_many(told, logins, 2).await);
    let reduce = "SELECT license_reduce_seats('Efimis', 11)";
    let told = "Adam tries to reduce it; that is for the support team.";
    story.refuses(told, "refused: 42501", adam.try_texts(reduce).await);
    inside.push(adam);
    inside
}

fn user(story: &Story<'_>, n: usize) -> Login {
    login(story, &format!("user_{n}"), n)
}

/// Returns a user at a computer, with Efimis.
fn login(story: &Story<'_>, name: &str, pc: usize) -> Login {
    let login = story.cluster.login(name).from(&format!("127.0.1.{pc}"));
    login.db(DATABASE).app(PRODUCT)
}
