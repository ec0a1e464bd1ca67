//! The counting rules of the contract, each by its name.

use crate::util::*;

#[tokio::test(flavor = "multi_thread")]
async fn same_role_from_two_computers_takes_two_seats() {
    let cluster = Cluster::with_seats(10);
    let _one = cluster.login("anna").from("127.0.1.1").open_ok().await;
    let _two = cluster.login("anna").from("127.0.1.2").open_ok().await;
    assert_eq!(cluster.in_use(), 2);
}
