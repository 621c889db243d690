//! Entities that are always there. A request is given those that it can reach, and no others: what it costs does not grow with the file.

use cedar_policy::{Entities, Entity, EntityUid, EvalResult};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// Entities of one file.
pub const ENTITIES_MAX: usize = 10_000;
/// Steps from entities to their parents and further up, all together: each entity has all of its ancestors in it, some 100 bytes for each.
const STEPS_MAX: usize = 200_000;
/// Entities that one request is given.
const GIVEN_MAX: usize = 1_000;
/// Bytes of them: each request makes copies.
const GIVEN_BYTES_MAX: u64 = 1 << 20;

/// There are more than a request may be given, or than may be kept.
#[derive(Debug)]
pub struct TooMany;

struct Stored {
    entity: Entity,
    /// Those that its attributes and tags name.
    names: Vec<EntityUid>,
    /// As text, with all of its ancestors: what a policy may have to look at, and what a request copies.
    bytes: u64,
}

/// Entities that are given to a request.
#[derive(Default)]
pub struct Reached {
    pub entities: Vec<Entity>,
    pub bytes: u64,
    seen: HashSet<EntityUid>,
}

impl Reached {
    /// Takes over what was reached before, but for those that are there.
    pub fn add(&mut self, other: &Reached) {
        self.bytes += other.bytes;
        for entity in &other.entities {
            if self.seen.insert(entity.uid()) {
                self.entities.push(entity.clone());
            }
        }
    }

    fn charge(&mut self, bytes: u64) -> Result<(), TooMany> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > GIVEN_BYTES_MAX { Err(TooMany) } else { Ok(()) }
    }

    pub fn push(&mut self, entity: Entity) {
        if self.seen.insert(entity.uid()) {
            self.entities.push(entity);
        }
    }
}

#[derive(Default)]
pub struct Store {
    stored: HashMap<EntityUid, Stored>,
}

impl Store {
    pub fn new(entities: Entities) -> Store {
        let stored = entities.iter().map(|entity| {
            let mut names = Vec::new();
            for (_, value) in entity.attrs().chain(entity.tags()) {
                if let Ok(value) = value {
                    named(&value, &mut names);
                }
            }
            let above = entities.ancestors(&entity.uid()).into_iter().flatten();
            let above: usize = above.map(|uid| uid.type_name().basename().len() + uid.id().unescaped().len()).sum();
            // What cannot be written cannot be weighed, and is given to nobody.
            let bytes = entity.to_json_string().map_or(u64::MAX, |text| (text.len() + above) as u64);
            (entity.uid(), Stored { entity: entity.clone(), names, bytes })
        });
        Store { stored: stored.collect() }
    }

    /// Who asks, as far as the file knows; whoever is given in this way is not reached any more.
    pub fn own(&self, uid: &EntityUid, reached: &mut Reached) -> Result<Option<Entity>, TooMany> {
        reached.seen.insert(uid.clone());
        let Some(stored) = self.stored.get(uid) else { return Ok(None) };
        reached.charge(stored.bytes)?;
        Ok(Some(stored.entity.clone()))
    }

    /// Those that an entity's attributes lead to.
    pub fn names(&self, uid: &EntityUid) -> &[EntityUid] {
        self.stored.get(uid).map_or(&[], |stored| &stored.names)
    }

    /// Adds an entity, and all that its attributes lead to. An entity has its ancestors in it already.
    pub fn reach(&self, from: EntityUid, reached: &mut Reached) -> Result<(), TooMany> {
        let mut next = vec![from];
        while let Some(uid) = next.pop() {
            let Some(stored) = self.stored.get(&uid) else { continue };
            if !reached.seen.insert(uid) {
                continue;
            }
            if reached.entities.len() >= GIVEN_MAX {
                return Err(TooMany);
            }
            reached.charge(stored.bytes)?;
            reached.entities.push(stored.entity.clone());
            next.extend(stored.names.iter().cloned());
        }
        Ok(())
    }
}

/// Before Cedar follows parents to their parents: what comes of that may be the square of the file.
pub fn weigh(json: &Value) -> Result<(), TooMany> {
    let mut parents: HashMap<Key<'_>, Vec<Key<'_>>> = HashMap::new();
    for entity in json.as_array().into_iter().flatten() {
        let above = entity["parents"].as_array().into_iter().flatten().filter_map(key);
        if let Some(uid) = key(&entity["uid"]) {
            parents.entry(uid).or_default().extend(above);
        }
    }
    let mut steps = 0;
    for uid in parents.keys() {
        let (mut next, mut seen) = (vec![*uid], HashSet::from([*uid]));
        while let Some(uid) = next.pop() {
            let above = parents.get(&uid).map_or(&[][..], Vec::as_slice);
            steps += above.len();
            if steps > STEPS_MAX {
                return Err(TooMany);
            }
            next.extend(above.iter().filter(|uid| seen.insert(**uid)));
        }
    }
    Ok(())
}

/// Type and id, as the file has them.
type Key<'j> = (&'j str, &'j str);

fn key(uid: &Value) -> Option<Key<'_>> {
    let uid = uid.get("__entity").unwrap_or(uid);
    Some((uid["type"].as_str()?, uid["id"].as_str()?))
}

fn named(value: &EvalResult, names: &mut Vec<EntityUid>) {
    match value {
        EvalResult::EntityUid(uid) => names.push(uid.clone()),
        EvalResult::Set(set) => set.iter().for_each(|value| named(value, names)),
        EvalResult::Record(record) => record.iter().for_each(|(_, value)| named(value, names)),
        EvalResult::Bool(_) | EvalResult::Long(_) | EvalResult::String(_) | EvalResult::ExtensionValue(_) => {}
    }
}
