//! Members: who has arrived at a barrier or belongs to a wait group, in a few bytes each.
//!
//! Pure. A member is keyed by what stays the same when it is tried again: a Job by its name, a pod of an Indexed Job or
//! of a StatefulSet by owner and index, any other pod by its UID. The text keeps what members share once:
//!
//! ```text
//! job/etl                      the Job of that name
//! job/train[0-98,100]          pods of an Indexed Job, by index
//! statefulset/db[0-2]          pods of a StatefulSet, by ordinal
//! pod/web-7d9f8-{x2k4p=UID,…}  pods, by name and UID (without dashes)
//! claim/ci-{1f3a=UID,…}        Claims, alike
//! ```
//!
//! What must stay true: what is written is read back as the same set, and equal sets are written alike.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Groups that a status may list: as many as members may be expected.
const MAX_GROUPS: usize = 10_000;

/// What identifies a member over its retries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberKey {
    /// A Job, by its name.
    Job(String),
    /// A pod with an index, by its owner (`job/train`, `statefulset/db`).
    Index(String, u32),
    /// Any other pod: its replacement is another member.
    Pod {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
    /// A Claim: another one is another member.
    Claim {
        /// Its name.
        name: String,
        /// Its UID.
        uid: String,
    },
}

/// A set of members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(BTreeSet<MemberKey>);

impl MemberKey {
    /// Does a retry come under the same key?
    pub const fn lasts(&self) -> bool {
        matches!(self, Self::Job(_) | Self::Index(..))
    }

    /// For people.
    pub fn display(&self) -> String {
        match self {
            Self::Job(name) => format!("job/{name}"),
            Self::Index(owner, index) => format!("{owner}[{index}]"),
            Self::Pod { name, .. } => format!("pod/{name}"),
            Self::Claim { name, .. } => format!("claim/{name}"),
        }
    }
}

impl Members {
    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &MemberKey> {
        self.0.iter()
    }

    /// Is it one of them?
    pub fn contains(&self, key: &MemberKey) -> bool {
        self.0.contains(key)
    }

    /// Adds one; says whether it is new.
    pub fn insert(&mut self, key: MemberKey) -> bool {
        self.0.insert(key)
    }

    /// Takes one out; says whether it was in.
    pub fn remove(&mut self, key: &MemberKey) -> bool {
        self.0.remove(key)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// None?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps those that fit.
    pub fn retain(&mut self, keep: impl FnMut(&MemberKey) -> bool) {
        self.0.retain(keep);
    }
}

impl FromIterator<MemberKey> for Members {
    fn from_iter<I: IntoIterator<Item = MemberKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Members {
    type Item = &'a MemberKey;
    type IntoIter = std::collections::btree_set::Iter<'a, MemberKey>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

// ---------------------------------------------------------------------------------------------------- writing

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.groups())
    }
}

impl Members {
    fn groups(&self) -> Vec<String> {
        let mut jobs = Vec::new();
        let mut indexes: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        let mut by_uid: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
        for key in &self.0 {
            let (kind, name, uid) = match key {
                MemberKey::Job(name) => {
                    jobs.push(format!("job/{name}"));
                    continue;
                }
                MemberKey::Index(owner, index) => {
                    indexes.entry(owner).or_default().push(*index);
                    continue;
                }
                MemberKey::Pod { name, uid } => ("pod", name, uid),
                MemberKey::Claim { name, uid } => ("claim", name, uid),
            };
            let (shared, own) = name.split_at(name.rfind('-').map_or(0, |dash| dash + 1));
            by_uid.entry((kind, shared)).or_default().push(format!("{own}={}", short(uid)));
        }
        let indexes = indexes.into_iter().map(|(owner, indexes)| format!("{owner}[{}]", ranges(&indexes)));
        let by_uid =
            by_uid.into_iter().map(|((kind, shared), own)| format!("{kind}/{shared}{{{}}}", own.join(",")));
        jobs.into_iter().chain(indexes).chain(by_uid).collect()
    }
}

/// `0-98,100`: the indexes come in their order, each once.
fn ranges(indexes: &[u32]) -> String {
    let mut text = String::new();
    let mut rest = indexes.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if(|next| last.checked_add(1) == Some(*next)) {
            last = next;
        }
        let comma = if text.is_empty() { "" } else { "," };
        let _ = if first == last {
            write!(text, "{comma}{first}")
        } else {
            write!(text, "{comma}{first}-{last}")
        };
    }
    text
}

/// A UUID without its dashes; anything else as it is, marked.
fn short(uid: &str) -> String {
    let packed: String = uid.chars().filter(|letter| *letter != '-').collect();
    if long(&packed).as_deref() == Some(uid) { packed } else { format!("~{uid}") }
}

/// The UUID of which that was left.
fn long(packed: &str) -> Option<String> {
    let hexadecimal = packed.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if packed.len() != 32 || !hexadecimal {
        return None;
    }
    let part = |from: usize, to: usize| packed.get(from..to).unwrap_or_default();
    Some(format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)))
}

// ---------------------------------------------------------------------------------------------------- reading

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let groups: Vec<String> = Vec::deserialize(deserializer)?;
        let mut members = BTreeSet::new();
        for group in &groups {
            read(group, &mut members)
                .ok_or_else(|| serde::de::Error::custom(format!("{group:?} is no group of members")))?;
        }
        Ok(Self(members))
    }
}

fn read(group: &str, members: &mut BTreeSet<MemberKey>) -> Option<()> {
    if let Some(group) = group.strip_suffix('}') {
        let (kind, rest) = group.split_once('/')?;
        let (shared, all) = rest.split_once('{')?;
        for one in all.split(',') {
            let (own, uid) = one.split_once('=')?;
            let uid = match uid.strip_prefix('~') {
                Some(uid) => uid.to_owned(),
                None => long(uid)?,
            };
            let name = format!("{shared}{own}");
            members.insert(match kind {
                "pod" => MemberKey::Pod { name, uid },
                "claim" => MemberKey::Claim { name, uid },
                _ => return None,
            });
        }
    } else if let Some(rest) = group.strip_suffix(']') {
        let (owner, indexes) = rest.split_once('[')?;
        for range in indexes.split(',') {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            // A hand that writes 0-4294967295 must not fill the memory.
            if last < first || usize::try_from(last - first).ok()? > 10 * MAX_GROUPS {
                return None;
            }
            members.extend((first..=last).map(|index| MemberKey::Index(owner.to_owned(), index)));
        }
    } else {
        let name = group.strip_prefix("job/").filter(|name| crate::values::is_name(name))?;
        members.insert(MemberKey::Job(name.to_owned()));
    }
    Some(())
}

impl JsonSchema for Members {
    fn schema_name() -> Cow<'static, str> {
        "Members".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "maxItems": MAX_GROUPS,
            "items": {"type": "string", "maxLength": 500_000},
            "x-kubernetes-list-type": "atomic",
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = MemberKey> {
        let name = "[a-z0-9]([a-z0-9-]{0,12}[a-z0-9])?";
        prop_oneof![
            name.prop_map(MemberKey::Job),
            ("(job|statefulset)/[a-z]{1,3}", 0..40_u32)
                .prop_map(|(owner, index)| MemberKey::Index(owner, index)),
            (name, "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
                .prop_map(|(name, uid)| MemberKey::Pod { name, uid }),
            (name, "[0-9a-f]{32}|[a-z0-9-]{1,10}").prop_map(|(name, uid)| MemberKey::Pod { name, uid }),
            (name, "[0-9a-f]{32}|[a-z0-9-]{1,10}").prop_map(|(name, uid)| MemberKey::Claim { name, uid }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(keys in prop::collection::vec(key(), 0..60)) {
            let members: Members = keys.into_iter().collect();
            let text = serde_json::to_string(&members).unwrap();
            prop_assert_eq!(serde_json::from_str::<Members>(&text).unwrap(), members);
        }
    }

    #[test]
    fn what_members_share_is_written_once() {
        let uid = "0a1b2c3d-0000-4000-8000-00000000000f".to_owned();
        let members: Members = [0, 1, 2, 5]
            .map(|index| MemberKey::Index("job/train".to_owned(), index))
            .into_iter()
            .chain([
                MemberKey::Job("etl".to_owned()),
                MemberKey::Pod { name: "web-7d9f8-x2k4p".to_owned(), uid: uid.clone() },
                MemberKey::Pod { name: "web-7d9f8-zzzzz".to_owned(), uid },
            ])
            .collect();
        let text = serde_json::to_string(&members).unwrap();
        let hex = "0a1b2c3d00004000800000000000000f";
        let wanted =
            format!("[\"job/etl\",\"job/train[0-2,5]\",\"pod/web-7d9f8-{{x2k4p={hex},zzzzz={hex}}}\"]");
        assert_eq!(text, wanted);
    }

    #[test]
    fn ten_thousand_members_fit_well_inside_an_object() {
        let size = |members: Members| serde_json::to_string(&members).unwrap().len();
        let indexes = (0..10_000).map(|index| MemberKey::Index("job/train".to_owned(), index)).collect();
        assert!(size(indexes) < 40);
        // The worst that can come of indexes: every second one.
        let gaps = (0..10_000).map(|index| MemberKey::Index("job/train".to_owned(), 2 * index)).collect();
        assert!(size(gaps) < 60_000);
        let pods = (0..10_000_u32)
            .map(|number| MemberKey::Pod {
                name: format!("batch-import-7d9f8-{number:05}"),
                uid: format!("{number:08x}-0000-4000-8000-000000000000"),
            })
            .collect();
        assert!(size(pods) < 400_000);
        let jobs = (0..10_000).map(|number| MemberKey::Job(format!("batch-import-{number:05}"))).collect();
        assert!(size(jobs) < 260_000);
    }

    #[test]
    fn what_nobody_here_wrote_is_an_error_and_no_panic() {
        for text in [
            "x",
            "job",
            "job/a[",
            "job/a[]",
            "job/a[3-1]",
            "job/a[0-4294967295]",
            "pod/a{b}",
            "pod/a{b=c}",
            "pod/a{",
        ] {
            assert!(serde_json::from_value::<Members>(serde_json::json!([text])).is_err(), "{text}");
        }
    }
}
