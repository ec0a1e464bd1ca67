//! Aptora's rules: ten user licenses, twenty employees, several company files and products.

use crate::story::Story;
use crate::util::Login;

const TOM: &str = "Total Office Manager";
const MOBILE: &str = "Aptora Mobile II";
const FILE: &str = "company_file";
const SECOND: &str = "second_file";
const BRANCH: &str = "branch_office";

/// Twenty employees are set up as users.
const EMPLOYEES: [&str; 20] = [
    "anna", "bert", "carl", "dora", "emil", "fay", "gus", "hana", "ivan", "judy", "karl", "lena",
    "mona", "nils", "olga", "paul", "quinn", "rosa", "sven", "tina",
];

/// Plays all of it.
pub async fn tell(story: &mut Story<'_>) {
    for employee in EMPLOYEES {
        story.cluster.sql(&format!("CREATE ROLE {employee} LOGIN"));
    }
    for database in [FILE, SECOND, BRANCH] {
        story.cluster.sql(&format!("CREATE DATABASE {database}"));
    }
    ten_user_licenses(story).await;
    who_counts_as_a_user(story).await;
    company_files(story).await;
    two_products(story).await;
    unlimited(story).await;
}

/// Returns an employee at a computer, with Total Office Manager, in the company file.
fn at(story: &Story<'_>, employee: &str, pc: usize) -> Login {
    let login = story.cluster.login(employee).from(&format!("127.0.1.{pc}"));
    login.db(FILE).app(TOM)
}

fn everybody(story: &Story<'_>, employees: &[&str]) -> Vec<Login> {
    let numbered = employees.iter().zip(1..);
    numbered
        .map(|(employee, pc)| at(story, employee, pc))
        .collect()
}

async fn ten_user_licenses(story: &mut Story<'_>) {
    story.chapter(
        "Total Office Manager: ten user licenses",
        "The firm owns ten user licenses; twenty employees are set up as users. The vendor's\n\
         installer has put two lines into the company file (the database):",
    );
    story.runs(
        FILE,
        "CREATE EXTENSION pg_seats;
         INSERT INTO licenses (product, seats) VALUES ('Total Office Manager', 10);",
    );
    let told = "Ten employees log in, each at a computer of their own.";
    let logins = everybody(story, &EMPLOYEES[..10]);
    let mut inside = story.admits_so_many(told, logins, 10).await;
    let eleventh = at(story, "karl", 11);
    let told = "Karl is the eleventh.";
    story.denies(told, eleventh.clone(), TOM).await;
    inside.remove(3).close().await;
    let told = "Dora logs out, and Karl tries again at once.";
    inside.extend(story.admits_at_once(told, eleventh).await);
    story.all_leave(FILE, inside).await;
}

async fn who_counts_as_a_user(story: &mut Story<'_>) {
    story.chapter(
        "Who counts as a user?",
        "By default a seat belongs to a user at a computer.",
    );
    let dora = [at(story, "dora", 1), at(story, "dora", 2)];
    let inside = [dora[0].open().await, dora[1].open().await];
    let told = "Dora logs in at two computers: two users, even with the same name.";
    story.counts(told, FILE, TOM, 2);
    story.all_leave(FILE, inside).await;

    let (first, second) = (dora[0].open_ok().await, dora[0].open_ok().await);
    let told = "Dora starts the program twice at one computer: one user.";
    story.counts(told, FILE, TOM, 1);
    first.close().await;
    let told = "She closes the first of the two windows: she is still in.";
    story.counts(told, FILE, TOM, 1);
    story.all_leave(FILE, second).await;

    let emil = at(story, "emil", 1);
    let inside = [dora[0].open().await, emil.open().await];
    let told = "Dora and Emil log in at the same computer: two users.";
    story.counts(told, FILE, TOM, 2);
    story.all_leave(FILE, inside).await;

    // A role and a computer for everyone: only the workstation tells them apart.
    let terminal = at(story, "fay", 100);
    let told = "Fay and a colleague share a name on a terminal server. It sends the workstation of\n     \
                each (pg_seats.workstation): two users.";
    let inside = [
        terminal.clone().workstation("THIN-CLIENT-1").open().await,
        terminal.workstation("THIN-CLIENT-2").open().await,
    ];
    story.counts(told, FILE, TOM, 2);
    story.all_leave(FILE, inside).await;
}

async fn company_files(story: &mut Story<'_>) {
    story.chapter(
        "Several company files",
        "A firm may have as many company files as it likes, for no more licenses: they share one\n\
         count, a pool.",
    );
    story.runs(FILE, "UPDATE licenses SET pool = 'our firm';");
    story.runs(
        SECOND,
        "CREATE EXTENSION pg_seats;
         INSERT INTO licenses (product, seats, pool) VALUES ('Total Office Manager', 10, 'our firm');",
    );
    let gus = at(story, "gus", 1);
    let first = gus.open().await;
    let mut inside = vec![first, gus.db(SECOND).open().await];
    let told = "Gus opens both company files at his computer: one user.";
    story.counts(told, FILE, TOM, 1);
    inside.push(at(story, "hana", 1).db(SECOND).open().await);
    let told = "Hana opens one of them at the same computer: the second user, in both counts.";
    story.counts(told, FILE, TOM, 2);
    story.all_leave(FILE, inside).await;

    let mut logins = everybody(story, &EMPLOYEES[..10]);
    for login in logins.iter_mut().skip(5) {
        *login = login.clone().db(SECOND);
    }
    let told = "Five employees work in the one file and five in the other.";
    let inside = story.admits_so_many(told, logins, 10).await;
    let told = "Karl is the eleventh of the firm.";
    let karl = at(story, "karl", 11).db(SECOND);
    story.denies(told, karl, TOM).await;
    story.all_leave(FILE, inside).await;
}

async fn two_products(story: &mut Story<'_>) {
    story.chapter(
        "Two products",
        "A license of Total Office Manager doesn't work with Aptora Mobile II, nor the other way\n\
         round. A small branch office owns one of each; programs are known by their name.",
    );
    story.runs(
        BRANCH,
        "CREATE EXTENSION pg_seats;
         INSERT INTO licenses (product, seats, application_name) VALUES
           ('Total Office Manager', 1, 'Total Office Manager%'),
           ('Aptora Mobile II', 1, 'Aptora Mobile%');",
    );
    let office = |employee, pc| at(story, employee, pc).db(BRANCH);
    let (ivan, judy, lena) = (office("ivan", 1), office("judy", 2), office("lena", 3));
    let told = "Ivan logs in with Total Office Manager.";
    let mut inside = vec![story.admits(told, ivan).await];
    let told = "Judy tries that too; the free license of Aptora Mobile II is no help.";
    story.denies(told, judy.clone(), TOM).await;
    let told = "She takes Aptora Mobile II instead.";
    inside.push(story.admits(told, judy.app("Aptora Mobile II 4.2")).await);
    let told = "Lena tries Aptora Mobile II too.";
    story.denies(told, lena.app(MOBILE), MOBILE).await;
    story.all_leave(BRANCH, inside).await;
}

async fn unlimited(story: &mut Story<'_>) {
    story.chapter("Unlimited users", "Some software includes unlimited users.");
    story.runs(FILE, "UPDATE licenses SET seats = NULL;");
    let told = "All twenty employees log in.";
    let logins = everybody(story, &EMPLOYEES);
    let inside = story.admits_so_many(told, logins, 20).await;
    let told = "They are counted all the same.";
    story.counts(told, FILE, TOM, 20);
    story.all_leave(FILE, inside).await;
}
