//! The fuzz targets without a fuzzer: the committed seeds, and some thousands of inputs made from them, always the same.
//!
//! `cargo xtask fuzz` lets libFuzzer look further; what it finds is put into `fuzz/seeds`, and is then tried here for
//! good.

#![allow(clippy::unwrap_used, reason = "clippy.toml permits unwrap in tests, but not in their helpers")]

#[path = "../../fuzz/src/pods.rs"]
mod pods;
mod support;
#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::path::Path;

use serde_json::{Value, json};

/// Inputs that are tried for each target, besides the seeds.
const MUTATED: usize = 3000;

/// Of `fuzz/seeds`, and for reviews those of the golden tests too.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut folders = vec![root.join("fuzz/seeds").join(target)];
    if target == "review" {
        folders.push(root.join("webhook/tests/reviews"));
    }
    let mut files: Vec<_> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Chance that is the same in each run: xorshift64*.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).unwrap() % limit.max(1)
    }

    fn of<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// One to four changes: bytes turned, cut out, repeated, or taken from another seed.
fn mutated(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    const WORDS: [&str; 8] = ["konductor.io/", "\n", ",", "=", "\u{b5}s", "99999999999999999999", "-", "\""];
    let mut bytes = chance.of(seeds).clone();
    for _ in 0..=chance.below(4) {
        let (from, length) = (chance.below(bytes.len()), chance.below(32));
        let end = (from + length).min(bytes.len());
        match chance.below(5) {
            0 if !bytes.is_empty() => bytes[from] = u8::try_from(chance.below(256)).unwrap(),
            1 => drop(bytes.drain(from..end)),
            2 => bytes.splice(from..from, bytes[from..end].to_vec()).for_each(drop),
            3 => bytes.splice(from..from, chance.of(&WORDS).bytes()).for_each(drop),
            _ => {
                let other = chance.of(seeds);
                let start = chance.below(other.len());
                let part = other[start..(start + length).min(other.len())].to_vec();
                bytes.splice(from..from, part).for_each(drop);
            }
        }
    }
    bytes
}

/// JSON that stays JSON: one or two of its nodes become something else.
fn mutated_json(chance: &mut Chance, seeds: &[Vec<u8>]) -> Vec<u8> {
    let parsed = |seed: &[u8]| serde_json::from_slice::<Value>(seed).unwrap_or_default();
    let mut review = parsed(chance.of(seeds).as_slice());
    // Mostly the object: little can be said of a review that is none.
    let whole = chance.below(8) == 0 || review.pointer("/request/object").is_none();
    let value = if whole { &mut review } else { &mut review["request"]["object"] };
    for _ in 0..=chance.below(2) {
        let odd = [
            json!(null),
            json!(0),
            json!(-1.5),
            json!("konductor-wait"),
            json!("konductor-grant"),
            json!("konductor.io/hold"),
            json!([]),
            json!([null]),
            json!({}),
            json!({"name": "konductor-wait"}),
        ];
        let with = if chance.below(3) == 0 {
            let mut other = parsed(chance.of(seeds).as_slice());
            node(chance, &mut other).take()
        } else {
            chance.of(&odd).clone()
        };
        *node(chance, value) = with;
    }
    review.to_string().into_bytes()
}

/// Some node, mostly not far from a leaf.
fn node<'a>(chance: &mut Chance, value: &'a mut Value) -> &'a mut Value {
    let size = match &*value {
        Value::Array(items) => items.len(),
        Value::Object(fields) => fields.len(),
        _ => 0,
    };
    if size == 0 || chance.below(24) == 0 {
        return value;
    }
    let place = chance.below(size);
    let child = match value {
        Value::Array(items) => items.get_mut(place),
        Value::Object(fields) => fields.values_mut().nth(place),
        _ => None,
    };
    node(chance, child.unwrap())
}

fn run(name: &str) {
    let (_, target) = targets::ALL.iter().find(|(known, _)| *known == name).unwrap();
    let seeds = seeds(name);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let mut chance = Chance(0x6B6F_6E64_7563_746F);
    let made = (0..MUTATED).map(|number| {
        if name == "review" && number % 4 != 0 {
            mutated_json(&mut chance, &seeds)
        } else {
            mutated(&mut chance, &seeds)
        }
    });
    for input in seeds.iter().cloned().chain(made) {
        let outcome = std::panic::catch_unwind(|| target(&input));
        assert!(outcome.is_ok(), "{name} fails on {:?}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn any_review_gets_an_answer_that_holds() {
    run("review");
}

#[test]
fn any_annotations_are_read_or_refused() {
    run("annotations");
}

#[test]
fn any_pod_is_patched_once() {
    run("pods");
}

#[test]
fn any_grant_is_read_as_it_was_written() {
    run("grant");
}

#[test]
fn every_target_is_run_here() {
    let names: Vec<_> = targets::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["review", "annotations", "pods", "grant"]);
}
