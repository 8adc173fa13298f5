//! Any sequence of operations against a plain map: what is answered, what stands in the tree, what the
//! indexes find, and what the changelog, done again from nothing, leads to.

use std::collections::BTreeMap;

use dirless_directory::{Dn, Entry, Value};
use dirless_syncer::tree::{Expect, Modification, Operation, Put, Scope, TreeError, TreeStore, difference};
use proptest::prelude::*;

use crate::support::*;

const TOP: &str = "ou=roles,dc=dirless";

/// Letters from below `ou=roles` down.
type Path = Vec<u8>;

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Anything,
    Absent,
    /// The version that it has, and this many more.
    Version(u64),
}

#[derive(Clone, Debug)]
enum Step {
    Add(Path, u8),
    Put(Path, u8, Wanted),
    Modify(Path, u8, Wanted),
    Delete(Path, Wanted),
    DeleteSubtree(Path),
    Rename(Path, u8, Option<Path>, Wanted),
    Reopen,
}

fn path() -> impl Strategy<Value = Path> {
    proptest::collection::vec(0..3_u8, 1..4)
}

fn wanted() -> impl Strategy<Value = Wanted> {
    prop_oneof![
        4 => Just(Wanted::Anything),
        1 => Just(Wanted::Absent),
        2 => (0..2_u64).prop_map(Wanted::Version),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let above = proptest::option::of(proptest::collection::vec(0..3_u8, 0..3));
    prop_oneof![
        6 => (path(), 0..3_u8).prop_map(|(path, value)| Step::Add(path, value)),
        4 => (path(), 0..3_u8, wanted()).prop_map(|(path, value, wanted)| Step::Put(path, value, wanted)),
        3 => (path(), 0..3_u8, wanted()).prop_map(|(path, value, wanted)| Step::Modify(path, value, wanted)),
        2 => (path(), wanted()).prop_map(|(path, wanted)| Step::Delete(path, wanted)),
        1 => path().prop_map(Step::DeleteSubtree),
        4 => (path(), 0..3_u8, above, wanted()).prop_map(|(from, to, above, wanted)| Step::Rename(from, to, above, wanted)),
        1 => Just(Step::Reopen),
    ]
}

fn name_of(path: &[u8]) -> Dn {
    let rdns: String = path.iter().rev().map(|letter| format!("cn={letter},")).collect();
    dn(&format!("{rdns}{TOP}"))
}

fn role(path: &[u8], value: u8) -> Entry {
    let cn = path.last().unwrap();
    entry(&format!(
        "{}\nobjectClass: aitherRole\ncn: {cn}\ndescription: d{value}",
        name_of(path)
    ))
}

/// What the tree is to hold: version and description by path.
#[derive(Clone, Debug, Default)]
struct Model(BTreeMap<Path, (u64, u8)>);

impl Model {
    fn above_is_there(&self, path: &[u8]) -> bool {
        path.len() == 1 || self.0.contains_key(&path[..path.len() - 1])
    }

    fn version(&self, path: &[u8]) -> u64 {
        self.0.get(path).map_or(0, |(version, _)| *version)
    }

    fn expect(&self, path: &[u8], wanted: Wanted) -> Expect {
        match wanted {
            Wanted::Anything => Expect::Anything,
            Wanted::Absent => Expect::Absent,
            Wanted::Version(more) => Expect::Version(self.version(path) + more),
        }
    }

    fn check(&self, path: &[u8], expect: Expect) -> Result<(), &'static str> {
        match expect {
            Expect::Absent if self.0.contains_key(path) => Err("exists"),
            Expect::Version(version) if version != self.version(path) => Err("version"),
            _ => Ok(()),
        }
    }

    fn step(&mut self, step: &Step) -> Result<&'static str, &'static str> {
        match step {
            Step::Add(path, value) => {
                self.check(path, Expect::Absent)?;
                self.above_is_there(path).then_some(()).ok_or("absent")?;
                self.0.insert(path.clone(), (1, *value));
                Ok("done")
            }
            Step::Put(path, value, wanted) => {
                self.check(path, self.expect(path, *wanted))?;
                match self.0.get_mut(path) {
                    Some((_, held)) if held == value => Ok("unchanged"),
                    Some((version, held)) => {
                        *version += 1;
                        *held = *value;
                        Ok("updated")
                    }
                    None => {
                        self.above_is_there(path).then_some(()).ok_or("absent")?;
                        self.0.insert(path.clone(), (1, *value));
                        Ok("added")
                    }
                }
            }
            Step::Modify(path, value, wanted) => {
                self.0.contains_key(path).then_some(()).ok_or("absent")?;
                self.check(path, self.expect(path, *wanted))?;
                let (version, held) = self.0.get_mut(path).unwrap();
                let changes = held != value;
                *version += u64::from(changes);
                *held = *value;
                Ok(if changes { "updated" } else { "unchanged" })
            }
            Step::Delete(path, wanted) => {
                self.0.contains_key(path).then_some(()).ok_or("absent")?;
                self.check(path, self.expect(path, *wanted))?;
                if self
                    .0
                    .keys()
                    .any(|other| other.len() > path.len() && other.starts_with(path))
                {
                    return Err("not leaf");
                }
                self.0.remove(path);
                Ok("done")
            }
            Step::DeleteSubtree(path) => {
                self.0.contains_key(path).then_some(()).ok_or("absent")?;
                self.0.retain(|other, _| !other.starts_with(path));
                Ok("done")
            }
            Step::Rename(from, to, above, wanted) => self.rename(from, *to, above.as_deref(), *wanted),
            Step::Reopen => Ok("done"),
        }
    }

    fn rename(
        &mut self,
        from: &[u8],
        to: u8,
        above: Option<&[u8]>,
        wanted: Wanted,
    ) -> Result<&'static str, &'static str> {
        self.0.contains_key(from).then_some(()).ok_or("absent")?;
        self.check(from, self.expect(from, wanted))?;
        let above = above.unwrap_or(&from[..from.len() - 1]);
        (above.is_empty() || self.0.contains_key(above))
            .then_some(())
            .ok_or("absent")?;
        if above.starts_with(from) {
            return Err("move");
        }
        let target = [above, &[to]].concat();
        if target != from && self.0.contains_key(&target) {
            return Err("exists");
        }
        let moved: Vec<Path> = self.0.keys().filter(|path| path.starts_with(from)).cloned().collect();
        let held: Vec<_> = moved.iter().map(|path| self.0.remove(path).unwrap()).collect();
        for (path, held) in moved.iter().zip(held) {
            let path = [target.as_slice(), &path[from.len()..]].concat();
            self.0.insert(path, held);
        }
        self.0.get_mut(&target).unwrap().0 += 1;
        Ok("done")
    }
}

fn kind(error: &TreeError) -> &'static str {
    match error {
        TreeError::Exists(_) => "exists",
        TreeError::Absent { .. } => "absent",
        TreeError::Version { .. } => "version",
        TreeError::NotLeaf(_) => "not leaf",
        TreeError::Move(_) => "move",
        _ => "other",
    }
}

/// The same on the store. `model` is as it was before, for versions.
fn run(store: &TreeStore, model: &Model, step: &Step) -> Result<&'static str, &'static str> {
    let actor = actor();
    let outcome = match step {
        Step::Add(path, value) => store.add(&actor, &role(path, *value)).map(|()| "done"),
        Step::Put(path, value, wanted) => {
            let put = store.put(&actor, &role(path, *value), model.expect(path, *wanted));
            put.map(|put| match put {
                Put::Added => "added",
                Put::Updated => "updated",
                Put::Unchanged => "unchanged",
            })
        }
        Step::Modify(path, value, wanted) => {
            let value = Value::from(format!("d{value}"));
            let steps = [Modification::Replace(name("description"), vec![value])];
            let changed = store.modify(&actor, &name_of(path), &steps, model.expect(path, *wanted));
            changed.map(|changed| if changed { "updated" } else { "unchanged" })
        }
        Step::Delete(path, wanted) => {
            let expect = model.expect(path, *wanted);
            store.delete(&actor, &name_of(path), expect).map(|()| "done")
        }
        Step::DeleteSubtree(path) => store
            .write(&actor, |batch| batch.delete_subtree(&name_of(path)))
            .map(|_| "done"),
        Step::Rename(from, to, above, wanted) => {
            let rdn = name_of(&[*to]).rdn().unwrap().clone();
            let above = above
                .as_ref()
                .map(|above| if above.is_empty() { dn(TOP) } else { name_of(above) });
            let expect = model.expect(from, *wanted);
            store
                .rename(&actor, &name_of(from), rdn, true, above.as_ref(), expect)
                .map(|()| "done")
        }
        Step::Reopen => Ok("done"),
    };
    outcome.map_err(|error| kind(&error))
}

/// Everything below the roles, by name.
fn dump(store: &TreeStore) -> BTreeMap<String, (u64, Entry)> {
    let names = found(store, TOP, Scope::Subtree, "(objectClass=aitherRole)").unwrap();
    let all = names.into_iter().map(|name| {
        let record = store.get(&dn(&name)).unwrap().unwrap();
        let mut entry = record.entry().unwrap();
        entry.set(crate::support::name("hasSubordinates"), Vec::new());
        (name, (record.version(), entry))
    });
    all.collect()
}

/// Does the changelog after `state` again, from nothing.
fn replay(store: &TreeStore, state: u64) -> BTreeMap<String, Entry> {
    let mut all: BTreeMap<String, Entry> = BTreeMap::new();
    let attributes = |told: &serde_json::Value| told.as_object().cloned().unwrap_or_default();
    for change in store.read(|reader| reader.changes(state, usize::MAX)).unwrap() {
        match change.operation {
            Operation::Add => {
                let mut entry = Entry::new(dn(&change.dn));
                difference::apply(&mut entry, &attributes(&change.difference["add"]));
                assert!(all.insert(change.dn, entry).is_none());
            }
            Operation::Update => {
                difference::apply(all.get_mut(&change.dn).unwrap(), &attributes(&change.difference["set"]));
            }
            Operation::Delete => {
                all.remove(&change.dn).unwrap();
            }
            Operation::Rename => {
                let to = change.difference["to"].as_str().unwrap();
                let below = format!(",{}", change.dn);
                let moved: Vec<String> = all
                    .keys()
                    .filter(|name| **name == change.dn || name.ends_with(&below))
                    .cloned()
                    .collect();
                for old in moved {
                    let mut entry = all.remove(&old).unwrap();
                    let new = format!("{}{to}", old.strip_suffix(&change.dn).unwrap());
                    entry.rename(dn(&new));
                    if old == change.dn {
                        difference::apply(&mut entry, &attributes(&change.difference["set"]));
                    }
                    all.insert(new, entry);
                }
            }
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_store_does_what_a_map_does(steps in proptest::collection::vec(step(), 1..40)) {
        let (folder, mut store) = tree();
        let start = store.read(|reader| reader.state()).unwrap();
        let mut model = Model::default();
        for step in &steps {
            let before = store.read(|reader| reader.state()).unwrap();
            if matches!(step, Step::Reopen) {
                drop(store);
                store = TreeStore::open(settings(folder.path()), clock()).unwrap();
            }
            let answered = run(&store, &model, step);
            let wanted = model.step(step);
            prop_assert_eq!(answered, wanted, "{:?}", step);
            let wrote = matches!(wanted, Ok(outcome) if outcome != "unchanged") && !matches!(step, Step::Reopen);
            let after = store.read(|reader| reader.state()).unwrap();
            prop_assert_eq!(after > before, wrote, "{:?}", step);
        }
        let dumped = dump(&store);
        let wanted: BTreeMap<String, (u64, String)> = model.0.iter()
            .map(|(path, (version, value))| (name_of(path).to_string(), (*version, format!("d{value}"))))
            .collect();
        let held: BTreeMap<String, (u64, String)> = dumped.iter()
            .map(|(name, (version, entry))| {
                let value = entry.values(&crate::support::name("description"))[0].as_str().unwrap();
                (name.clone(), (*version, value.to_owned()))
            })
            .collect();
        prop_assert_eq!(held, wanted);
        let entries: BTreeMap<String, Entry> = dumped.into_iter().map(|(name, (_, entry))| (name, entry)).collect();
        prop_assert_eq!(replay(&store, start), entries);
        // What an index finds is what looking at each entry finds.
        for letter in 0..3_u8 {
            let by_index = found(&store, TOP, Scope::Subtree, &format!("(cn={letter})")).unwrap();
            let by_looking = found(&store, TOP, Scope::Subtree, &format!("(!(!(cn={letter})))")).unwrap();
            prop_assert_eq!(by_index, by_looking);
        }
        let counted = store.get(&dn(TOP)).unwrap().unwrap().children();
        prop_assert_eq!(counted, model.0.keys().filter(|path| path.len() == 1).count() as u64);
    }
}
