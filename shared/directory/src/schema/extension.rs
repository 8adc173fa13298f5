//! What a site adds to the standard definitions, on its way to those who read its directory.

use super::definition::{Item, items};
use super::{AttributeType, DefinitionError, ObjectClass, Schema, SchemaError};

/// One definition of an extension.
#[derive(Debug)]
pub struct Definition(Item);

impl Definition {
    /// Most bytes of one.
    pub const LONGEST: usize = 64 * 1024;

    /// Reads exactly one definition, after its keyword.
    ///
    /// # Errors
    /// When `text` is anything else.
    pub fn parse(text: &str) -> Result<Self, DefinitionError> {
        if text.len() > Self::LONGEST {
            return Err(DefinitionError::Long);
        }
        let mut all = items(text);
        let one = all.next().ok_or(DefinitionError::End)?;
        let (_, item) = one.map_err(|(_, reason)| reason)?;
        match all.next() {
            None => Ok(Self(item)),
            Some(_) => Err(DefinitionError::Several),
        }
    }

    /// The name that is written.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.0 {
            Item::Attribute(attribute) => attribute.name(),
            Item::Class(class) => class.name(),
        }
    }
}

/// A definition that did not become part of a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is another one of that name or OID.
    #[error("defines {0}, which is defined otherwise already")]
    Otherwise(String),
    /// It refers to one that is not there.
    #[error("refers to {0}, which is not defined")]
    Unknown(String),
    /// It stands on too many others.
    #[error("has more than {} supertypes above one another", Schema::DEEPEST)]
    Deep,
}

impl Schema {
    /// Most definitions of an extension.
    pub const MOST: usize = 8_192;

    /// What is not standard in it: each definition on one line after its keyword, in an order in which
    /// [`Schema::extend`] takes them back.
    pub fn extension(&self) -> impl Iterator<Item = String> {
        let (attributes, classes) = self.0.standard;
        let attributes = self.attributes().skip(attributes);
        let classes = self.classes().skip(classes);
        attributes
            .map(|attribute| format!("attributetype {attribute}"))
            .chain(classes.map(|class| format!("objectclass {class}")))
    }

    /// The whole extension as one text, a definition on each line: equal for schemas that say the same in
    /// the same order. Empty for the standard schema.
    #[must_use]
    pub fn extension_text(&self) -> String {
        let mut text = String::new();
        for definition in self.extension() {
            text.push_str(&definition);
            text.push('\n');
        }
        text
    }

    /// Takes in what several others have, whatever refers to what, and tells which of the definitions are
    /// refused and why. Of two that differ the first one stands.
    pub fn unite<'d>(&mut self, definitions: impl Iterator<Item = &'d Definition>) -> Vec<(&'d Definition, Refused)> {
        let mut refused = Vec::new();
        let mut waiting: Vec<(&Definition, Refused)> = Vec::new();
        for definition in definitions {
            match self.merge(definition) {
                Ok(_) => {}
                Err(reason @ Refused::Unknown(_)) => waiting.push((definition, reason)),
                Err(reason) => refused.push((definition, reason)),
            }
        }
        loop {
            let before = waiting.len();
            waiting.retain_mut(|(definition, reason)| match self.merge(definition) {
                Ok(_) => false,
                Err(now) => {
                    *reason = now;
                    true
                }
            });
            if waiting.len() == before {
                refused.append(&mut waiting);
                return refused;
            }
        }
    }

    /// Takes in a definition that somebody else has. One that is here already, and says the same, is not
    /// taken twice: false then. What people read (`DESC`) may differ.
    ///
    /// # Errors
    /// Why it cannot stand beside those that are here, which stay as they are.
    pub fn merge(&mut self, definition: &Definition) -> Result<bool, Refused> {
        let added = match definition.0.clone() {
            Item::Attribute(new) => match self.attribute(&new.oid) {
                Some(held) if held.says_the_same(&new) => return Ok(false),
                _ => self.add_attribute(1, new),
            },
            Item::Class(new) => match self.class(&new.oid) {
                Some(held) if held.says_the_same(&new) => return Ok(false),
                _ => self.add_class(1, new),
            },
        };
        match added {
            Ok(()) => Ok(true),
            Err(SchemaError::Unknown { missing, .. }) => Err(Refused::Unknown(missing)),
            Err(SchemaError::Deep { .. }) => Err(Refused::Deep),
            Err(SchemaError::Twice { name, .. }) => Err(Refused::Otherwise(name)),
            // Only a text has such ones.
            Err(SchemaError::Definition { reason, .. }) => Err(Refused::Unknown(reason.to_string())),
        }
    }
}

impl AttributeType {
    fn says_the_same(&self, other: &Self) -> bool {
        let said = |one: &Self| Self {
            description: None,
            text: Box::default(),
            ..one.clone()
        };
        said(self) == said(other)
    }
}

impl ObjectClass {
    fn says_the_same(&self, other: &Self) -> bool {
        let said = |one: &Self| Self {
            description: None,
            text: Box::default(),
            ..one.clone()
        };
        said(self) == said(other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::MatchingRule;

    const BADGE: &str = "attributetype ( 1.3.6.1.4.1.99999.1 NAME ( 'corpBadge' 'badge' )\n  EQUALITY caseIgnoreMatch # x\n \
        SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )";
    const VISITOR: &str =
        "objectclass ( 1.3.6.1.4.1.99999.2 NAME 'corpVisitor' DESC 'a (guest)' SUP person MAY badge )";

    fn merge(schema: &mut Schema, text: &str) -> Result<bool, Refused> {
        schema.merge(&Definition::parse(text).unwrap())
    }

    #[test]
    fn an_extension_leads_back_to_its_schema() {
        let mut site = Schema::standard();
        assert_eq!(site.extension_text(), "");
        // A class before an attribute that it has nothing to do with.
        site.extend(&format!(
            "{BADGE}\n{VISITOR}\nattributetype ( 1.3.6.1.4.1.99999.3 NAME 'corpFloor' SUP badge )"
        ))
        .unwrap();
        let mut back = Schema::standard();
        back.extend(&site.extension_text()).unwrap();
        assert_eq!(back.extension_text(), site.extension_text());
        assert_eq!(back.equality("corpFloor"), Some(MatchingRule::CaseIgnore));
        let mut merged = Schema::standard();
        for definition in site.extension() {
            assert_eq!(merge(&mut merged, &definition), Ok(true), "{definition}");
            assert_eq!(merge(&mut merged, &definition), Ok(false), "{definition}");
        }
        assert_eq!(merged.extension_text(), site.extension_text());
    }

    #[test]
    fn equal_definitions_are_one_and_others_are_refused_by_name() {
        let mut schema = Schema::standard();
        assert_eq!(merge(&mut schema, BADGE), Ok(true));
        let said = BADGE
            .replace("EQUALITY", "DESC 'of the door' EQUALITY")
            .replace("# x", "");
        assert_eq!(merge(&mut schema, &said), Ok(false));
        let before = schema.extension_text();
        for (text, refused) in [
            (
                BADGE.replace(" SINGLE-VALUE", ""),
                Refused::Otherwise("1.3.6.1.4.1.99999.1".to_owned()),
            ),
            (
                BADGE.replace("99999.1", "99999.9"),
                Refused::Otherwise("corpBadge".to_owned()),
            ),
            (
                "attributetype ( 1.3.6.1.4.1.99999.9 NAME 'UID' EQUALITY caseExactMatch )".to_owned(),
                Refused::Otherwise("UID".to_owned()),
            ),
            (
                VISITOR.replace("MAY badge", "MAY door"),
                Refused::Unknown("door".to_owned()),
            ),
            (
                VISITOR.replace("SUP person", "SUP beast"),
                Refused::Unknown("beast".to_owned()),
            ),
        ] {
            assert_eq!(merge(&mut schema, &text), Err(refused), "{text}");
        }
        assert_eq!(schema.extension_text(), before);
        // Nothing of what was refused is left behind: neither its names nor its OID.
        assert!(schema.attribute("1.3.6.1.4.1.99999.9").is_none());
        assert_eq!(merge(&mut schema, VISITOR), Ok(true));
    }

    #[test]
    fn several_unite_whatever_refers_to_what() {
        let parse = |text: &str| Definition::parse(text).unwrap();
        let lost = "objectclass ( 1.3.6.1.4.1.99999.7 NAME 'corpLost' MAY nowhere )";
        let other = BADGE.replace("corpBadge", "corpToken");
        let all: Vec<Definition> = [VISITOR, lost, BADGE, &other, VISITOR].map(parse).into();
        let mut schema = Schema::standard();
        let refused = schema.unite(all.iter());
        let told: Vec<_> = refused
            .iter()
            .map(|(one, reason)| format!("{} {reason}", one.name()))
            .collect();
        assert_eq!(
            told,
            [
                "corpToken defines 1.3.6.1.4.1.99999.1, which is defined otherwise already",
                "corpLost refers to nowhere, which is not defined"
            ]
        );
        assert!(schema.class("corpVisitor").is_some() && schema.attribute("badge").is_some());
        // In another order the other one of the two stands, and the rest is the same.
        let mut back = Schema::standard();
        let refused = back.unite(all.iter().rev());
        assert_eq!(refused.len(), 2);
        assert!(back.attribute("corpToken").is_some() && back.class("corpVisitor").is_some());
    }

    #[test]
    fn supertypes_end() {
        let mut schema = Schema::standard();
        assert_eq!(merge(&mut schema, BADGE), Ok(true));
        let mut above = "badge".to_owned();
        for depth in 1..=Schema::DEEPEST {
            let name = format!("deep{depth}");
            let text = format!("attributetype ( 1.3.6.1.4.1.99999.5.{depth} NAME '{name}' SUP {above} )");
            assert_eq!(merge(&mut schema, &text), Ok(true), "{depth}");
            above = name;
        }
        let text = format!("attributetype ( 1.3.6.1.4.1.99999.6 NAME 'deepest' SUP {above} )");
        assert_eq!(merge(&mut schema, &text), Err(Refused::Deep));
        assert!(schema.extend(&text).unwrap_err().to_string().contains("deepest"));
    }

    #[test]
    fn a_text_is_one_definition() {
        for text in ["", "# nothing", "dn: cn=x", "attributetype (", "attributetype x"] {
            assert!(Definition::parse(text).is_err(), "{text}");
        }
        let two = format!("{BADGE} {VISITOR}");
        assert_eq!(Definition::parse(&two).unwrap_err(), DefinitionError::Several);
        let long = format!("{BADGE}{}", " ".repeat(Definition::LONGEST));
        assert_eq!(Definition::parse(&long).unwrap_err(), DefinitionError::Long);
        assert_eq!(Definition::parse(BADGE).unwrap().name(), "corpBadge");
    }

    proptest! {
        #[test]
        fn whatever_is_merged_leads_back(parts in prop::collection::vec((0_u8..6, 0_u8..6, 0_u8..4), 0..20)) {
            let mut schema = Schema::standard();
            for (number, name, more) in parts {
                let more = match more {
                    0 => "SUP name".to_owned(),
                    1 => "EQUALITY integerMatch".to_owned(),
                    2 => format!("SUP own{}", name / 2),
                    _ => String::new(),
                };
                let text = format!("attributetype ( 1.2.3.{number} NAME 'own{name}' {more} )");
                let _ = merge(&mut schema, &text);
            }
            let mut back = Schema::standard();
            back.extend(&schema.extension_text()).unwrap();
            prop_assert_eq!(back.extension_text(), schema.extension_text());
        }
    }
}
