//! Entities that are always there. A request is given those that it can reach, and no others: what it costs does not grow with the file.

use cedar_policy::{Entities, Entity, EntityUid, EvalResult};
use std::collections::{HashMap, HashSet};

/// Entities of one file.
pub const ENTITIES_MAX: usize = 10_000;
/// Entities that one request is given.
const GIVEN_MAX: usize = 1_000;

/// There are more than a request may be given.
#[derive(Debug)]
pub struct TooMany;

struct Stored {
    entity: Entity,
    /// Those that its attributes and tags name.
    names: Vec<EntityUid>,
    /// As text: what a policy may have to look at.
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
    /// Nobody is reached who is given in another way.
    pub fn without(uid: EntityUid) -> Reached {
        Reached { seen: HashSet::from([uid]), ..Reached::default() }
    }

    /// Takes over what was reached before, but for those that are there.
    pub fn add(&mut self, other: &Reached) {
        self.bytes += other.bytes;
        for entity in &other.entities {
            if self.seen.insert(entity.uid()) {
                self.entities.push(entity.clone());
            }
        }
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
        let stored = entities.into_iter().map(|entity| {
            let mut names = Vec::new();
            for (_, value) in entity.attrs().chain(entity.tags()) {
                if let Ok(value) = value {
                    named(&value, &mut names);
                }
            }
            let bytes = entity.to_json_string().map_or(0, |text| text.len() as u64);
            (entity.uid(), Stored { entity, names, bytes })
        });
        Store { stored: stored.collect() }
    }

    pub fn get(&self, uid: &EntityUid) -> Option<&Entity> {
        self.stored.get(uid).map(|stored| &stored.entity)
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
            reached.entities.push(stored.entity.clone());
            reached.bytes += stored.bytes;
            next.extend(stored.names.iter().cloned());
        }
        Ok(())
    }
}

fn named(value: &EvalResult, names: &mut Vec<EntityUid>) {
    match value {
        EvalResult::EntityUid(uid) => names.push(uid.clone()),
        EvalResult::Set(set) => set.iter().for_each(|value| named(value, names)),
        EvalResult::Record(record) => record.iter().for_each(|(_, value)| named(value, names)),
        EvalResult::Bool(_) | EvalResult::Long(_) | EvalResult::String(_) | EvalResult::ExtensionValue(_) => {}
    }
}
