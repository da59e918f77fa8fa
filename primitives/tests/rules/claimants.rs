//! Claimants: clients on a bad network, operators with old views, and a Mutex. Never do two run at a time.
//!
//! Seeded stories, a second a step. A client works for two thirds of the `ttl` after it *sent* the last renewal that was answered as
//! granted, and is then dead, whatever it knows (`koncli run`, whose guard does that). Answers get lost or come late; clients crash,
//! are paused, give back. Two operators see any version that was, count silence on their own clocks, restart, and write by
//! compare-and-swap; the rules are the shipped ones. Checked are `MutualExclusion` of the clients, `TtlFloor`, and the invariants of
//! each ledger that is written. What must stay true: each flaw that is planted is found.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use konductor_api::claim::{Claim, ClaimPhase, ClaimSpec, ClaimedPrimitive};
use konductor_api::conditions::{CLAIM_GRANTED, Claimed, reason, set};
use konductor_api::ledger::Evidence;
use konductor_api::mutex::{Mutex, MutexSpec};
use konductor_api::participation::{Kind, Role};
use konductor_primitives::claim::{ClaimTelling, Defaults, participant, telling};
use konductor_primitives::committed::Committed;
use konductor_primitives::mutex::{check, step};

use super::support::{at, fresh, name_of, snapshot, time};

/// In seconds.
const TTL: i64 = 30;
const SAFE: i64 = TTL / 3 * 2;
const CLIENTS: usize = 3;
const SECONDS: i64 = 300;
const SEEDS: u64 = 200;

/// What is wrong with a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// A claim is told that it is lost whatever version it has by now.
    ExpiresBlindly,
    /// The ledger is written before the claim is told.
    ForgetsTheClaim,
    /// Silence begins before it was seen to begin.
    CountsTooMuch,
    /// A client works from when it saw the grant.
    TrustsTheGrant,
    /// A client counts from when an answer came.
    CountsFromTheAnswer,
}

/// Chance that is the same each time: splitmix64.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(limit).unwrap()).unwrap()
    }

    fn one_in(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }
}

/// A renewal on its way: to the API server, or back with what that said.
#[derive(Clone, Copy, Debug)]
struct Letter {
    sent: i64,
    answer: Option<ClaimPhase>,
}

#[derive(Clone, Debug, Default)]
struct Client {
    claim: Option<String>,
    letters: Vec<Letter>,
    /// It works until then.
    until: Option<i64>,
    paused: bool,
}

/// What one operator has seen.
#[derive(Clone, Default)]
struct Operator {
    claims: BTreeMap<String, Claim>,
    mutex: Option<Mutex>,
    /// By claim: which renewal was seen, and when first.
    heard: BTreeMap<String, (String, i64)>,
}

struct World {
    flaw: Flaw,
    chance: Chance,
    now: i64,
    revision: u64,
    made: usize,
    mutex: Mutex,
    claims: BTreeMap<String, Claim>,
    clients: Vec<Client>,
    operators: [Operator; 2],
    /// The ends of holds by time, for the test of the tests.
    lost: usize,
    worked: usize,
}

fn version(claim: &Claim) -> Option<&String> {
    claim.metadata.resource_version.as_ref()
}

fn phase(claim: &Claim) -> Option<ClaimPhase> {
    claim.status.as_ref().and_then(|status| status.phase)
}

impl World {
    fn new(flaw: Flaw, seed: u64) -> Self {
        Self {
            flaw,
            chance: Chance(seed),
            now: 0,
            revision: 10,
            made: 0,
            mutex: fresh(Mutex::new("x", MutexSpec::default())),
            claims: BTreeMap::new(),
            clients: vec![Client::default(); CLIENTS],
            operators: [Operator::default(), Operator::default()],
            lost: 0,
            worked: 0,
        }
    }

    /// The next revision of anything.
    fn next(&mut self) -> String {
        self.revision += 1;
        self.revision.to_string()
    }

    // --------------------------------------------------------------------------------------------------- clients

    fn client_acts(&mut self, number: usize) {
        let mut client = self.clients[number].clone();
        let now = self.now;
        // Its guard, which is never paused.
        if client.until.is_some_and(|until| until <= now) {
            client = Client::default();
        }
        if client.paused {
            client.paused = !self.chance.one_in(25);
            self.clients[number] = client;
            return;
        }
        match client.claim.clone() {
            None if self.chance.one_in(3) => client.claim = Some(self.ask()),
            None => {}
            Some(_) if self.chance.one_in(150) => client = Client::default(),
            Some(claim) => {
                client.paused = self.chance.one_in(100);
                self.deliver(&mut client, &claim);
                let granted =
                    self.claims.get(&claim).is_some_and(|claim| phase(claim) == Some(ClaimPhase::Granted));
                if granted && client.until.is_none() && self.flaw == Flaw::TrustsTheGrant {
                    client.until = Some(now + SAFE);
                }
                // Seen late, or renewed when it is due.
                let due = client.until.is_none_or(|until| until - now < SAFE / 2);
                if granted && due && client.letters.is_empty() && self.chance.one_in(2) {
                    client.letters.push(Letter { sent: now, answer: None });
                }
                let gone = self
                    .claims
                    .get(&claim)
                    .is_none_or(|claim| phase(claim).is_some_and(ClaimPhase::is_final));
                if gone && client.until.is_none() {
                    client = Client::default();
                } else if client.until.is_some() && self.chance.one_in(40) {
                    // The work is done: it has ended, and then gives back.
                    self.claims.remove(&claim);
                    client = Client::default();
                }
            }
        }
        self.clients[number] = client;
    }

    fn ask(&mut self) -> String {
        self.made += 1;
        let name = format!("claim-{}", self.made);
        let spec = ClaimSpec {
            primitive: ClaimedPrimitive { kind: Kind::Mutex, name: "x".to_owned() },
            mode: None,
            permits: None,
            holder: name.clone(),
            ttl: Some(format!("{TTL}s").parse().unwrap()),
            renew_time: None,
            timeout: None,
            priority: None,
            outcome: None,
            binding: None,
            requester: None,
            pod: None,
        };
        let mut claim = Claim::new(&name, spec);
        claim.metadata.uid = Some(name.clone());
        claim.metadata.creation_timestamp = Some(time(self.now));
        claim.metadata.resource_version = Some(self.next());
        self.claims.insert(name.clone(), claim);
        name
    }

    /// Letters arrive, late, or never.
    fn deliver(&mut self, client: &mut Client, name: &str) {
        let mut kept = Vec::new();
        for mut letter in std::mem::take(&mut client.letters) {
            match (self.chance.below(4), letter.answer) {
                (0, _) => {}
                (1, _) => kept.push(letter),
                (_, None) => {
                    let revision = self.next();
                    let Some(claim) = self.claims.get_mut(name) else { continue };
                    claim.spec.renew_time = Some(
                        serde_json::from_value(serde_json::json!(format!(
                            "2030-01-01T00:00:00.{:06}Z",
                            self.revision
                        )))
                        .unwrap(),
                    );
                    claim.metadata.resource_version = Some(revision);
                    letter.answer = phase(claim);
                    kept.push(letter);
                }
                (_, Some(ClaimPhase::Granted)) => {
                    let counts_from =
                        if self.flaw == Flaw::CountsFromTheAnswer { self.now } else { letter.sent };
                    // An answer that comes too late is none.
                    if counts_from + SAFE > self.now {
                        client.until = client.until.max(Some(counts_from + SAFE));
                        self.worked += 1;
                    }
                }
                (_, Some(_)) => client.until = None,
            }
        }
        client.letters = kept;
    }

    // ------------------------------------------------------------------------------------------------- operators

    fn operator_acts(&mut self, which: usize) {
        if self.chance.one_in(200) {
            self.operators[which] = Operator::default();
        }
        // A watch brings some of what is new.
        let names: Vec<_> = self.claims.keys().cloned().collect();
        for name in names {
            if self.chance.one_in(2) {
                self.see(which, &name);
            }
        }
        if self.operators[which].mutex.is_none() || self.chance.one_in(2) {
            self.operators[which].mutex = Some(self.mutex.clone());
        }
        for _ in 0..4 {
            if !self.reconciles(which) {
                break;
            }
        }
    }

    fn see(&mut self, which: usize, name: &str) {
        let operator = &mut self.operators[which];
        match self.claims.get(name) {
            Some(claim) => operator.claims.insert(name.to_owned(), claim.clone()),
            None => operator.claims.remove(name),
        };
    }

    fn silent_for(&mut self, which: usize, claim: &Claim) -> i64 {
        let (now, flaw) = (self.now, self.flaw);
        let heard = &mut self.operators[which].heard;
        let uid = claim.metadata.uid.clone().unwrap();
        if phase(claim) != Some(ClaimPhase::Granted) {
            heard.remove(&uid);
            return 0;
        }
        let renewal = format!("{:?}", claim.spec.renew_time);
        let known = heard.entry(uid).or_insert_with(|| (renewal.clone(), now));
        if known.0 != renewal {
            *known = (renewal, now);
        }
        now - known.1 + if flaw == Flaw::CountsTooMuch { TTL / 3 * 2 } else { 0 }
    }

    /// One round; is there more to do?
    fn reconciles(&mut self, which: usize) -> bool {
        let Some(mutex) = self.operators[which].mutex.clone() else { return false };
        let claims: Vec<_> = self.operators[which].claims.values().cloned().collect();
        let mut participants = Vec::new();
        for claim in &claims {
            let silent = SignedDuration::from_secs(self.silent_for(which, claim));
            participants.extend(participant(claim, Defaults::default(), None, silent));
        }
        let mut seen = snapshot(mutex.clone(), participants);
        seen.now = at(self.now);
        let mut absent = BTreeSet::new();
        let mut proposed = step(&seen);
        for lookup in std::mem::take(&mut proposed.lookups) {
            // The API server itself is asked.
            self.see(which, &lookup.name);
            if !self.claims.contains_key(&lookup.name) {
                absent.insert(lookup.uid);
            }
        }
        seen.absent = absent;
        let mut proposed = step(&seen);
        for expiry in std::mem::take(&mut proposed.expiries) {
            assert_eq!(expiry.evidence, Evidence::T);
            if self.flaw == Flaw::ForgetsTheClaim {
                let holders = &mut proposed.status.ledger.holders;
                if let Some(place) = holders.iter().position(|holder| holder.uid == expiry.uid) {
                    let gone = holders.remove(place);
                    proposed.status.ledger.history.insert(
                        0,
                        konductor_api::ledger::Release {
                            holder: gone.display(),
                            uid: gone.uid,
                            token: gone.token,
                            evidence: Evidence::T,
                            at: time(self.now),
                        },
                    );
                }
                continue;
            }
            let told = ClaimTelling {
                phase: ClaimPhase::Expired,
                reason: reason::NOT_RENEWED,
                message: String::new(),
                token: None,
            };
            self.tell(which, &expiry.name, &told, self.flaw == Flaw::ExpiresBlindly);
            self.lost += 1;
            return true;
        }
        if !proposed.lookups.is_empty() {
            return true;
        }
        if mutex.status.as_ref() != Some(&proposed.status) {
            if mutex.metadata.resource_version != self.mutex.metadata.resource_version {
                self.operators[which].mutex = Some(self.mutex.clone());
                return true;
            }
            check(&mutex, &proposed.status).unwrap();
            self.mutex.status = Some(proposed.status);
            self.mutex.metadata.resource_version = Some(self.next());
            self.operators[which].mutex = Some(self.mutex.clone());
        }
        let committed = self.operators[which].mutex.clone().unwrap();
        let name = name_of(Kind::Mutex, "x");
        for claim in &claims {
            let judge = |mutex: &Mutex| {
                telling(claim, &name, Role::Hold, Committed::Mutex(mutex), None, at(self.now))
            };
            let told = match judge(&committed) {
                Some(told) if told.phase.is_final() => judge(&self.mutex),
                told => told,
            };
            let same = |told: &ClaimTelling| phase(claim) == Some(told.phase);
            if let Some(told) = told.filter(|told| !same(told)) {
                self.tell(which, &claim.metadata.name.clone().unwrap(), &told, false);
            }
        }
        false
    }

    /// A status, on the version that was seen.
    fn tell(&mut self, which: usize, name: &str, told: &ClaimTelling, blindly: bool) {
        let seen = self.operators[which].claims.get(name).cloned();
        let revision = self.next();
        let now = at(self.now);
        if let Some(claim) = self.claims.get_mut(name)
            && (blindly || seen.as_ref().is_some_and(|seen| version(seen) == version(claim)))
        {
            let status = claim.status.get_or_insert_default();
            status.phase = Some(told.phase);
            status.token = told.token.clone().or_else(|| status.token.clone());
            let granted = told.phase == ClaimPhase::Granted;
            let claimed = Claimed {
                type_: CLAIM_GRANTED,
                status: granted,
                reason: told.reason,
                message: String::new(),
            };
            set(&mut status.conditions, claimed, Some(1), now);
            claim.metadata.resource_version = Some(revision);
        }
        self.see(which, name);
    }

    // ----------------------------------------------------------------------------------------------------- truth

    /// Who works right now.
    fn working(&self) -> usize {
        self.clients.iter().filter(|client| client.until.is_some_and(|until| until > self.now)).count()
    }

    /// Lives; says whether two ever worked at a time.
    fn two_work(&mut self) -> bool {
        while self.now < SECONDS {
            self.now += 1;
            for _ in 0..2 {
                match self.chance.below(CLIENTS + 2) {
                    client if client < CLIENTS => self.client_acts(client),
                    operator => self.operator_acts(operator - CLIENTS),
                }
                if self.working() > 1 {
                    return true;
                }
            }
            // Guards act whenever it is time.
            for client in &mut self.clients {
                if client.until.is_some_and(|until| until <= self.now) {
                    *client = Client::default();
                }
            }
        }
        false
    }
}

#[test]
fn two_clients_never_work_at_a_time() {
    let (mut lost, mut worked) = (0, 0);
    for seed in 0..SEEDS {
        let mut world = World::new(Flaw::None, seed);
        assert!(!world.two_work(), "seed {seed}, second {}", world.now);
        lost += world.lost;
        worked += world.worked;
    }
    assert!(lost > 500 && worked > 500, "they worked and were lost: {worked}, {lost}");
}

#[test]
fn each_flaw_is_found() {
    for flaw in [
        Flaw::ExpiresBlindly,
        Flaw::ForgetsTheClaim,
        Flaw::CountsTooMuch,
        Flaw::TrustsTheGrant,
        Flaw::CountsFromTheAnswer,
    ] {
        let found = (0..5 * SEEDS).find(|seed| World::new(flaw, *seed).two_work());
        assert!(found.is_some(), "{flaw:?} is not found");
    }
}
