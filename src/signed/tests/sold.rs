//! Tests that seats used anywhere never exceed what was sold: seats of a license are allotted, come back and are
//! allotted again, on servers whose clocks go forward and back, which lose their records and restore their databases.
//! The rules are the real ones; what PostgreSQL does between them is done here by hand.

use super::*;
use crate::core::ledger::numbers::DatabaseOid;
use crate::core::tokens::claims::LEEWAY;
use crate::signed::installation::record::Allotment;

const SEATS: i64 = 10;
const OVERDRAFT: i64 = 2;
const GRACE: i64 = 1_000;
const BEGIN: i64 = 1_790_000_000;
const END: i64 = BEGIN + 10_000;
const LAPTOPS: usize = 3;

/// A server: its record, its clock (in seconds after the license's beginning), and what was installed there.
struct Server {
    pair: KeyPair,
    record: Record,
    clock: i64,
    tokens: Vec<String>,
}

impl Server {
    fn new(number: u8) -> Server {
        Server {
            pair: installation(number),
            record: Record::default(),
            clock: 0,
            tokens: Vec::new(),
        }
    }

    fn id(&self) -> String {
        self.pair.public().id()
    }

    fn now(&self) -> i64 {
        moment(BEGIN + self.clock)
    }

    /// Returns the licenses as a worker sees them.
    fn licenses(&self) -> Vec<SignedLicense> {
        let (keys, id) = (keys(), self.id());
        let rows: Vec<StoredToken> = self
            .tokens
            .iter()
            .map(|token| StoredToken {
                license_id: believe(token).unwrap().jti,
                token: token.clone(),
                is_installed: true,
            })
            .collect();
        let evaluation = Evaluation {
            keys: &keys,
            record: &self.record,
            lost: None,
            installation: Some(&id),
            database: DatabaseOid(5),
            key_grace: 0,
            now: self.now(),
        };
        evaluation.licenses(&rows).0
    }

    fn observe(&mut self) {
        let licenses = self.licenses();
        self.record.observe(DatabaseOid(5), &licenses, self.now());
        self.record.forget();
    }

    fn install(&mut self, token: &str) {
        let claims = verify(token, &keys()).unwrap();
        let latest = unix(self.now().max(self.record.latest));
        let is_given_back = self.record.given_back.contains_key(&claims.jti);
        if claims.fit(latest, Some(&self.id())).is_ok()
            && !is_given_back
            && self.record.verified(&claims)
        {
            self.tokens
                .retain(|other| believe(other).unwrap().jti != claims.jti);
            self.tokens.push(token.to_owned());
        }
    }

    /// Returns how many it admits when its clock shows this, whatever it showed before.
    fn admits_at(&self, clock: i64) -> i64 {
        self.admits(&self.licenses(), clock)
    }

    fn admits(&self, licenses: &[SignedLicense], clock: i64) -> i64 {
        let at = moment(BEGIN + clock);
        let judged = at.max(self.record.latest);
        let admits = |license: &SignedLicense| {
            let claims = &license.claims;
            let end = claims.exp.map_or(i64::MAX, |exp| exp + GRACE);
            let end = end.min(claims.ends.unwrap_or(i64::MAX));
            let begin = claims.nbf.map_or(0, |nbf| nbf - LEEWAY);
            let is_believed = license.believed_until.is_none_or(|until| at < until);
            if !(moment(begin)..moment(end)).contains(&judged) || !is_believed {
                return 0;
            }
            let product = &claims.products[0];
            let bought = i64::from(license.seats("TOM").unwrap());
            let away = self.record.away(&claims.iss, &claims.jti, "TOM", at);
            let overdraft = match license.doubt {
                Some(Doubt::GivenBack) => None,
                _ => product.overdraft,
            };
            (bought - away).max(0) + i64::from(overdraft.unwrap_or(0))
        };
        licenses.iter().map(admits).sum()
    }
}

struct World {
    centre: Server,
    laptops: Vec<Server>,
    receipts: Vec<String>,
    number: usize,
}

impl World {
    fn new() -> World {
        let mut centre = Server::new(1);
        let mut license = claims();
        license["iat"] = json!(BEGIN);
        license["nbf"] = json!(BEGIN);
        license["exp"] = json!(END);
        license["cnf"] = json!({"jkt": centre.id()});
        license["products"] = json!([{"product": "TOM", "seats": SEATS, "overdraft": OVERDRAFT, "grace": GRACE.to_string()}]);
        centre.install(&sign(&header(), &license));
        World {
            centre,
            laptops: (0..LAPTOPS).map(|n| Server::new(n as u8 + 2)).collect(),
            receipts: Vec::new(),
            number: 0,
        }
    }

    /// Does what license_allot() does here, and license_install() there.
    fn allot(&mut self, laptop: usize, seats: i64, term: Option<i64>) {
        let license = self.centre.licenses().remove(0);
        let claims = &license.claims;
        let now = self.centre.now();
        let left = SEATS
            - self
                .centre
                .record
                .away(&claims.iss, &claims.jti, "TOM", now);
        let ends_before_it_begins = term.is_some_and(|term| unix(now) + term <= BEGIN);
        if seats > left || claims.exp.unwrap() <= unix(now) || ends_before_it_begins {
            return;
        }
        self.number += 1;
        let allotment = Allotment {
            id: format!("allotment {}", self.number),
            iss: claims.iss.clone(),
            jti: claims.jti.clone(),
            product: "TOM".to_owned(),
            seats: seats as i32,
            installation: self.laptops[laptop].id(),
            database: DatabaseOid(5),
            allotted_at: now,
            valid_until: term.map(|term| now + term * 1_000_000),
            returned_at: None,
        };
        let token = Allotted {
            iss: self.centre.id(),
            jti: allotment.id.clone(),
            iat: claims.iat,
            nbf: unix(now),
            exp: allotment.valid_until.map(unix),
            product: "TOM".to_owned(),
            seats: allotment.seats,
            cnf: Confirmation {
                jkt: allotment.installation.clone(),
            },
            license: license.token.clone(),
        };
        self.centre.record.adopt(allotment);
        let token = token.sign(&self.centre.pair).unwrap();
        self.laptops[laptop].install(&token);
    }

    /// Does what license_give_back() does.
    fn give_back(&mut self, laptop: usize) {
        let laptop = &mut self.laptops[laptop];
        let now = laptop.now();
        let Some(license) = laptop
            .licenses()
            .into_iter()
            .find(|license| license.doubt.is_none())
        else {
            return;
        };
        let claims = &license.claims;
        let returned = Returned {
            iss: laptop.id(),
            jti: claims.jti.clone(),
            iat: unix(now),
            product: "TOM".to_owned(),
            seats: license.seats("TOM").unwrap(),
        };
        self.receipts.push(returned.sign(&laptop.pair).unwrap());
        let given_back = GivenBack {
            at: now,
            product: "TOM".to_owned(),
            receipt: String::new(),
            ends: claims.ends.map(moment),
        };
        laptop
            .record
            .given_back
            .insert(claims.jti.clone(), given_back);
    }

    fn accept(&mut self, number: usize) {
        if let Some(receipt) = self.receipts.get(number % self.receipts.len().max(1)) {
            let returned = Returned::verify(receipt).unwrap();
            let now = self.centre.now();
            self.centre.record.note_return(&returned.jti, now);
        }
    }

    fn servers(&self) -> impl Iterator<Item = &Server> + Clone {
        self.laptops.iter().chain([&self.centre])
    }

    /// Tells whether all servers can go by a clock that shows this. A server that knows of a later time uses seats that
    /// were allotted only then, whatever its clock shows.
    fn is_one_time(&self, clock: i64) -> bool {
        let latest = self.servers().map(|server| unix(server.record.latest));
        let allotments = self.centre.record.allotments.iter();
        let allotted = allotments.map(|one| unix(one.allotted_at) - LEEWAY);
        latest.max() <= Some(BEGIN + clock) || allotted.max() <= Some(BEGIN + clock)
    }

    fn check(&self) {
        // Whatever time it is, by clocks that show the same.
        let allotments = self.centre.record.allotments.iter();
        let ends = allotments.clone().filter_map(Allotment::comes_back_at);
        let begins = allotments.map(|one| one.allotted_at);
        let interesting = ends.chain(begins).map(|at| unix(at) - BEGIN);
        let around = interesting.flat_map(|at| [at - LEEWAY - 1, at - LEEWAY, at - 1, at]);
        let now = self.servers().map(|server| server.clock);
        let judged = self.servers().map(|server| (server, server.licenses()));
        let judged: Vec<_> = judged.collect();
        let clocks = around.chain(now).chain([0, 5_000, 9_999, 10_000, 10_500]);
        for clock in clocks.filter(|&clock| self.is_one_time(clock)) {
            let used = judged
                .iter()
                .map(|(server, licenses)| server.admits(licenses, clock));
            let used: Vec<i64> = used.collect();
            assert!(
                used.iter().sum::<i64>() <= SEATS + OVERDRAFT,
                "at {clock} laptops and centre admit {used:?}"
            );
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Allot(usize, i64, Option<i64>),
    GiveBack(usize),
    Accept(usize),
    /// A clock is set, or time goes by.
    Clock(usize, i64),
    Look(usize),
    InstallAgain(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let laptop = 0..LAPTOPS;
    prop_oneof![
        3 => (laptop.clone(), 1..4_i64, proptest::option::of(1..6_000_i64))
            .prop_map(|(laptop, seats, term)| Act::Allot(laptop, seats, term)),
        1 => laptop.clone().prop_map(Act::GiveBack),
        2 => (0..8_usize).prop_map(Act::Accept),
        3 => (0..=LAPTOPS, -200..11_500_i64).prop_map(|(server, clock)| Act::Clock(server, clock)),
        2 => (0..=LAPTOPS).prop_map(Act::Look),
        1 => laptop.prop_map(Act::InstallAgain),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn seats_used_anywhere_never_exceed_what_was_sold(acts in proptest::collection::vec(act(), 1..24)) {
        let mut world = World::new();
        for act in acts {
            match act {
                Act::Allot(laptop, seats, term) => world.allot(laptop, seats, term),
                Act::GiveBack(laptop) => world.give_back(laptop),
                Act::Accept(number) => world.accept(number),
                Act::Clock(LAPTOPS, clock) => world.centre.clock = clock,
                Act::Clock(laptop, clock) => world.laptops[laptop].clock = clock,
                Act::Look(LAPTOPS) => world.centre.observe(),
                Act::Look(laptop) => world.laptops[laptop].observe(),
                Act::InstallAgain(laptop) => {
                    let laptop = &mut world.laptops[laptop];
                    for token in laptop.tokens.clone() {
                        laptop.install(&token);
                    }
                }
            }
            world.check();
        }
    }
}

#[test]
fn ten_allotments_of_one_seat_have_no_overdraft_of_their_own() {
    let mut world = World::new();
    for n in 0..10 {
        world.allot(n % LAPTOPS, 1, None);
    }
    let laptops = world.laptops.iter().map(|laptop| laptop.admits_at(10));
    assert_eq!((laptops.sum::<i64>(), world.centre.admits_at(10)), (10, 2));
    world.check();
    world.give_back(0);
    world.check();
    world.accept(0);
    assert_eq!(world.centre.admits_at(10), 3);
    world.check();
}

#[test]
fn what_the_record_forgets_multiplies_no_seat() {
    let mut record = Record::default();
    let at = |seconds: i64| moment(BEGIN + seconds);
    for n in 0..1_000 {
        record.adopt(Allotment {
            id: n.to_string(),
            iss: "vendor".to_owned(),
            jti: "license".to_owned(),
            product: ["TOM", "Scan"][n as usize % 2].to_owned(),
            seats: 1,
            installation: "laptop".to_owned(),
            database: DatabaseOid(5),
            allotted_at: at(n),
            valid_until: (n % 5 != 0).then(|| at(n + 10)),
            returned_at: (n % 3 == 0).then(|| at(n + 5)),
        });
        let given_back = GivenBack {
            at: at(n),
            product: "TOM".to_owned(),
            receipt: String::new(),
            ends: (n % 5 != 0).then(|| at(n + 10)),
        };
        record.given_back.insert(n.to_string(), given_back);
    }
    let former = record.clone();
    // Nothing is forgotten before its end has come.
    record.forget();
    assert_eq!(record.given_back, former.given_back);
    assert_eq!(record.allotments.len(), 1_000 - 134);
    record.latest = at(2_000);
    record.forget();
    record.forget();
    // 200 that came back by a receipt, 200 that came back at their end, and those that never come back by themselves.
    assert_eq!(
        (record.allotments.len(), record.ended.len()),
        (200 + 200 + 133, 2)
    );
    assert_eq!(record.given_back.len(), 200 + 200);
    let away =
        |record: &Record, product, seconds| record.away("vendor", "license", product, at(seconds));
    for product in ["TOM", "Scan"] {
        for seconds in (0..1_300).step_by(7) {
            assert!(
                away(&record, product, seconds) >= away(&former, product, seconds),
                "{product} at {seconds}"
            );
        }
        assert_eq!(away(&record, product, 1_200), away(&former, product, 1_200));
        assert_eq!(away(&record, product, 2_000), away(&former, product, 2_000));
    }
    // Whatever has no end is never forgotten.
    for n in (0..1_000).step_by(5) {
        assert!(record.given_back.contains_key(&n.to_string()));
    }
    // Up to a hundred licenses that no key has verified are noted, and no other is believed at all.
    let none = Keys::default();
    for n in 0..150 {
        let id = format!("unverified {n}");
        let token = sign(&header(), &with("/jti", json!(id)));
        let rows = [StoredToken {
            license_id: id,
            ..row(&token)
        }];
        let (licenses, _) = evaluation(&none, &record).licenses(&rows);
        let own = licenses.iter().find(|own| own.token == token).unwrap();
        let believed_until = own.believed_until.unwrap();
        assert_eq!(believed_until > NOW, n < 100, "{n}");
        record.observe(DatabaseOid(5), &licenses, NOW);
    }
    assert_eq!(record.licenses.len(), 100);
}
