//! Cargo Office on three servers: ten signed licenses, of which two go to laptops and come back.

use serde_json::json;

use crate::story::Story;
use crate::util::{Cluster, Login, Session, Vendor};

const PRODUCT: &str = "Cargo Office";

/// Plays all of it.
pub async fn tell(story: &mut Story<'_>) {
    let vendor = Vendor::new("https://cargo-office.example", 5);
    let server = || Cluster::builder().with_key_of(&vendor);
    let (centre, laptops) = (server(), [server(), server()]);
    for cluster in [&centre, &laptops[0], &laptops[1]] {
        cluster.sql("CREATE ROLE forwarder LOGIN");
    }
    story.chapter(
        "Cargo Office on three servers: signed licenses",
        "The vendor signs what was sold: ten licenses, for the firm's central server alone. Its\n\
         administrator passes one on to each of two laptops, which are servers of their own. Whatever is\n\
         written into the tables, together there are never more than ten.",
    );
    let mut claims = vendor.claims(10);
    claims["products"][0]["product"] = json!(PRODUCT);
    claims["cnf"] = json!({"jkt": centre.installation()});
    println!("\n    postgres=# SELECT license_install('eyJ…');");
    centre.install(&vendor.sign(&claims));
    for laptop in &laptops {
        let key = laptop.sql("SELECT license_installation()");
        println!("    postgres=# SELECT license_allot('Cargo Office', '{key}', 1);");
        let token = centre.sql(&format!("SELECT license_allot('{PRODUCT}', '{key}', 1)"));
        laptop.install(&token);
    }
    Story::new(&centre).shows(
        "postgres",
        "SELECT license_id, customer, days_left, state FROM license_keys_status",
    );
    Story::new(&centre).shows(
        "postgres",
        "SELECT product, seats, left(installation, 8) AS installation, returned_at FROM license_allotments",
    );
    let told = "Eight starts at the centre.";
    let logins = (1..=8).map(|n| start(&centre, n)).collect();
    let mut inside = story.admits_so_many(told, logins, 8).await;
    story
        .denies("The ninth start at the centre.", start(&centre, 9), PRODUCT)
        .await;
    let told = "Somebody who may writes a hundred seats into the table, and starts again.";
    centre.sql("UPDATE licenses SET seats = 100, purchased = 100");
    story.denies(told, start(&centre, 9), PRODUCT).await;
    Story::new(&centre).shows(
        "postgres",
        "SELECT product, seats, in_use, status FROM license_usage",
    );
    for laptop in &laptops {
        inside.extend(at_laptop(story, laptop).await);
    }
    let told = "The laptops give their seats back, and the centre takes the receipts: whoever works there is logged off.";
    let mut returned = Vec::new();
    for laptop in &laptops {
        let receipt = laptop.sql(&format!("SELECT license_give_back('{PRODUCT}')"));
        returned.push(centre.sql(&format!("SELECT license_accept_return('{receipt}')")));
    }
    story.case(
        told,
        "1 seat, 1 seat",
        format!("{} seat, {} seat", returned[0], returned[1]),
    );
    story
        .denies("A start on a laptop.", start(&laptops[0], 3), PRODUCT)
        .await;
    let told = "Three more starts at the centre; two licenses came back.";
    let logins = (10..=12).map(|n| start(&centre, n)).collect();
    inside.extend(story.admits_so_many(told, logins, 2).await);
}

async fn at_laptop(story: &mut Story<'_>, laptop: &Cluster) -> Option<Session> {
    let session = story.admits("A start on a laptop.", start(laptop, 1)).await;
    story
        .denies("A second one there.", start(laptop, 2), PRODUCT)
        .await;
    session
}

/// Returns a start of the program: a GUID of its own.
fn start(cluster: &Cluster, n: usize) -> Login {
    let login = cluster.login("forwarder").from("127.0.1.1");
    login
        .app(PRODUCT)
        .workstation(&format!("3F2504E0-4F89-11D3-9A0C-0305E82C{n:04X}"))
}
