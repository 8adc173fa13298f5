//! Modifications of one entry (RFC 4511 section 4.6, RFC 4525). Pure.

use dirless_directory::{AttributeName, Entry, Schema, Value};

use super::TreeError;
use super::operational::{canonical_name, comparable, holds, is_kept_by_server};

/// One step of a modification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Modification {
    /// Adds values; each must be new.
    Add(AttributeName, Vec<Value>),
    /// Removes values, which must be there; the attribute when none is named.
    Delete(AttributeName, Vec<Value>),
    /// Sets the values, whatever was there; none removes the attribute.
    Replace(AttributeName, Vec<Value>),
    /// Adds a number to each value.
    Increment(AttributeName, i64),
}

impl Modification {
    /// The attribute.
    #[must_use]
    pub fn name(&self) -> &AttributeName {
        match self {
            Self::Add(name, _) | Self::Delete(name, _) | Self::Replace(name, _) | Self::Increment(name, _) => name,
        }
    }

    pub(super) fn apply(&self, schema: &Schema, entry: &mut Entry) -> Result<(), TreeError> {
        let name = canonical_name(schema, self.name());
        if is_kept_by_server(schema, &name) {
            return Err(TreeError::KeptByServer(name));
        }
        match self {
            Self::Add(_, values) => {
                for value in values {
                    if holds(schema, entry.values(&name), &name, value) {
                        return Err(TreeError::ValueExists(name));
                    }
                    entry.add(name.clone(), value.clone());
                }
            }
            Self::Delete(_, values) => {
                let mut left = entry.values(&name).to_vec();
                if left.is_empty() {
                    return Err(TreeError::NoSuchValue(name));
                }
                if values.is_empty() {
                    left.clear();
                }
                for value in values {
                    let wanted = comparable(schema, &name, value);
                    let at = left.iter().position(|held| comparable(schema, &name, held) == wanted);
                    left.remove(at.ok_or_else(|| TreeError::NoSuchValue(name.clone()))?);
                }
                entry.set(name, left);
            }
            Self::Replace(_, values) => entry.set(name, values.clone()),
            Self::Increment(_, by) => {
                let number = |value: &Value| value.as_str()?.parse::<i64>().ok()?.checked_add(*by);
                let held = entry.values(&name);
                let increased: Option<Vec<i64>> = held.iter().map(number).collect();
                let increased = increased.filter(|values| !values.is_empty());
                let increased = increased.ok_or_else(|| TreeError::NotInteger(name.clone()))?;
                let values = increased.into_iter().map(|number| Value::from(number.to_string()));
                entry.set(name, values.collect());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dirless_directory::Dn;

    use super::*;

    fn name(text: &str) -> AttributeName {
        AttributeName::parse(text).unwrap()
    }

    fn values(list: &[&str]) -> Vec<Value> {
        list.iter().map(|text| Value::from(*text)).collect()
    }

    /// The mail addresses after the step, or the error.
    fn after(step: &Modification) -> Result<Vec<String>, TreeError> {
        let mut entry = Entry::new(Dn::parse("uid=a").unwrap());
        entry.set(name("mail"), values(&["a@example", "b@example"]));
        entry.set(name("uidNumber"), values(&["41"]));
        step.apply(&Schema::standard(), &mut entry)?;
        let texts = |name| {
            entry
                .values(&name)
                .to_vec()
                .into_iter()
                .map(|value| value.as_str().unwrap().to_owned())
        };
        Ok(texts(name("mail")).chain(texts(name("uidNumber"))).collect())
    }

    #[test]
    fn values_are_added_removed_replaced_and_increased() {
        let cases = [
            (
                Modification::Add(name("MAIL"), values(&["c@example"])),
                vec!["a@example", "b@example", "c@example", "41"],
            ),
            (
                Modification::Delete(name("mail"), values(&["B@example"])),
                vec!["a@example", "41"],
            ),
            (Modification::Delete(name("mail"), vec![]), vec!["41"]),
            (
                Modification::Replace(name("mail"), values(&["z@example"])),
                vec!["z@example", "41"],
            ),
            (Modification::Replace(name("mail"), vec![]), vec!["41"]),
            (
                Modification::Increment(name("uidNumber"), 1),
                vec!["a@example", "b@example", "42"],
            ),
        ];
        for (step, wanted) in cases {
            assert_eq!(after(&step).unwrap(), wanted, "{step:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        type Is = fn(&TreeError) -> bool;
        let cases: [(Modification, Is); 6] = [
            (Modification::Add(name("mail"), values(&["A@Example"])), |error| {
                matches!(error, TreeError::ValueExists(_))
            }),
            (Modification::Delete(name("mail"), values(&["c@example"])), |error| {
                matches!(error, TreeError::NoSuchValue(_))
            }),
            (Modification::Delete(name("cn"), vec![]), |error| {
                matches!(error, TreeError::NoSuchValue(_))
            }),
            (Modification::Increment(name("mail"), 1), |error| {
                matches!(error, TreeError::NotInteger(_))
            }),
            (Modification::Increment(name("uidNumber"), i64::MAX), |error| {
                matches!(error, TreeError::NotInteger(_))
            }),
            (Modification::Replace(name("entryUUID"), vec![]), |error| {
                matches!(error, TreeError::KeptByServer(_))
            }),
        ];
        for (step, is) in cases {
            let error = after(&step).unwrap_err();
            assert!(is(&error), "{step:?}: {error}");
        }
    }
}
