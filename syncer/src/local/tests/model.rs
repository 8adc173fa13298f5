//! Random sequences of edits against a model that is nothing but maps, and the rules that must hold
//! after each step whatever was done.

use std::collections::{BTreeMap, BTreeSet};

use dirless_model::snapshot::ObjectKind;
use proptest::prelude::*;

use super::super::blob::{Blob, members};
use super::super::{Which, groups, keys, users};
use super::{config, fields, key};

#[derive(Clone, Debug)]
enum Step {
    AddUser(u8),
    RemoveUser(u8),
    Rename(u8, u8),
    AddGroup(u8),
    RemoveGroup(u8),
    Enter(u8, u8),
    Leave(u8, u8),
    AddKey(u8, u8),
    RemoveKeys(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let user = 0u8..6;
    let group = 0u8..3;
    prop_oneof![
        4 => user.clone().prop_map(Step::AddUser),
        2 => user.clone().prop_map(Step::RemoveUser),
        1 => (user.clone(), user.clone()).prop_map(|(old, new)| Step::Rename(old, new)),
        2 => group.clone().prop_map(Step::AddGroup),
        1 => group.clone().prop_map(Step::RemoveGroup),
        3 => (group.clone(), user.clone()).prop_map(|(group, user)| Step::Enter(group, user)),
        1 => (group, user.clone()).prop_map(|(group, user)| Step::Leave(group, user)),
        2 => (user.clone(), 0u8..4).prop_map(|(user, key)| Step::AddKey(user, key)),
        1 => user.prop_map(Step::RemoveKeys),
    ]
}

fn user(number: u8) -> String {
    format!("user{number}")
}

fn group(number: u8) -> String {
    format!("group{number}")
}

/// What there should be: users in their groups, keys by user.
#[derive(Debug, Default, PartialEq)]
struct Model {
    users: BTreeSet<String>,
    groups: BTreeMap<String, BTreeSet<String>>,
    keys: BTreeMap<String, BTreeSet<String>>,
}

impl Model {
    fn step(&mut self, step: &Step) {
        match step {
            Step::AddUser(number) => {
                self.users.insert(user(*number));
                let everyone = self.groups.entry("dirless-local".to_owned()).or_default();
                everyone.insert(user(*number));
            }
            Step::RemoveUser(number) => {
                if self.users.remove(&user(*number)) {
                    self.groups
                        .values_mut()
                        .for_each(|members| _ = members.remove(&user(*number)));
                    self.keys.remove(&user(*number));
                }
            }
            Step::Rename(old, new) => {
                let (old, new) = (user(*old), user(*new));
                if self.users.contains(&old) && !self.users.contains(&new) {
                    self.users.remove(&old);
                    self.users.insert(new.clone());
                    for members in self.groups.values_mut() {
                        if members.remove(&old) {
                            members.insert(new.clone());
                        }
                    }
                    if let Some(keys) = self.keys.remove(&old) {
                        self.keys.insert(new, keys);
                    }
                }
            }
            Step::AddGroup(number) => _ = self.groups.entry(group(*number)).or_default(),
            Step::RemoveGroup(number) => _ = self.groups.remove(&group(*number)),
            Step::Enter(number, member) => {
                if let Some(members) = self.groups.get_mut(&group(*number)) {
                    members.insert(user(*member));
                }
            }
            Step::Leave(number, member) => {
                if let Some(members) = self.groups.get_mut(&group(*number)) {
                    members.remove(&user(*member));
                }
            }
            Step::AddKey(number, line) => {
                self.keys.entry(user(*number)).or_default().insert(key(*line));
            }
            Step::RemoveKeys(number) => _ = self.keys.remove(&user(*number)),
        }
    }

    fn of(blob: &Blob) -> Self {
        let groups = blob.groups().iter().map(|record| {
            let record = record.as_object();
            let name = record.unwrap()["name"].as_str().unwrap().to_owned();
            (name, members(record).map(str::to_owned).collect())
        });
        let lines = |text: &str| text.lines().map(str::to_owned).collect();
        Self {
            users: blob.user_names().into_iter().map(str::to_owned).collect(),
            groups: groups.collect(),
            keys: blob
                .all_keys()
                .map(|(name, text)| (name.to_owned(), lines(text)))
                .collect(),
        }
    }
}

fn apply(blob: &mut Blob, step: &Step) {
    let config = config();
    // A refusal changes nothing, in the model neither.
    let _ = match step {
        Step::AddUser(number) => users::add(blob, &user(*number), &fields(), &config),
        Step::RemoveUser(number) => Ok(users::remove(blob, &user(*number))),
        Step::Rename(old, new) => users::rename(blob, &user(*old), &user(*new)),
        Step::AddGroup(number) => groups::add(blob, &group(*number), None, &config),
        Step::RemoveGroup(number) => groups::remove(blob, &group(*number)),
        Step::Enter(number, member) => groups::add_members(blob, &group(*number), &[user(*member)]),
        Step::Leave(number, member) => groups::remove_members(blob, &group(*number), &[user(*member)]),
        Step::AddKey(number, line) => keys::add(blob, &user(*number), &key(*line)),
        Step::RemoveKeys(number) => keys::remove(blob, &user(*number), &Which::All),
    };
}

proptest! {
    #[test]
    fn any_sequence_does_what_the_model_says_and_no_number_has_two_owners(
        steps in proptest::collection::vec(step(), 0..60),
    ) {
        let mut blob = Blob::default();
        let mut model = Model::default();
        // Number to the user, by the name they have now; a rename is followed.
        let mut owners: BTreeMap<u32, String> = BTreeMap::new();
        for step in &steps {
            let before = blob.clone();
            apply(&mut blob, step);
            model.step(step);
            // The rename of a user whose new name has memberships or keys of a stranger joins them.
            let mut found = Model::of(&blob);
            for keys in [&mut found.keys, &mut model.keys] {
                keys.retain(|_, lines| !lines.is_empty());
            }
            prop_assert_eq!(&found, &model, "after {:?}", step);
            if let Step::Rename(old, new) = step
                && before.user(&user(*old)).is_some() && before.user(&user(*new)).is_none()
            {
                owners.values_mut().filter(|owner| **owner == user(*old)).for_each(|owner| *owner = user(*new));
            }
            let retired = blob.retired(ObjectKind::User);
            for (number, name) in blob.numbers(ObjectKind::User) {
                prop_assert!(!retired.contains_key(&number), "{number} is in use and retired");
                let owner = owners.entry(number).or_insert_with(|| name.to_owned());
                prop_assert_eq!(owner.as_str(), name, "{} changed hands", number);
            }
            // Doing it again does nothing, but a removal that came after a rename may find another.
            let once = blob.clone();
            if !matches!(step, Step::Rename(..)) {
                apply(&mut blob, step);
                prop_assert_eq!(&blob, &once, "{:?} twice", step);
            }
            // What is written is what is read.
            prop_assert_eq!(&Blob::parse(&blob.to_json()).unwrap(), &blob);
        }
    }
}
