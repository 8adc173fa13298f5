//! What sites have beyond the standard schema: read from the bodies of several sources, and made one.

use dirless_directory::Schema;
use dirless_directory::schema::{Definition, Refused};
use dirless_model::snapshot::{Field, RawSchema};

use super::drops::{Drops, Kind};

/// Most bytes of the definitions of one source.
const MOST_TEXT: usize = 4 << 20;

/// Reads the definitions of a source.
///
/// # Errors
/// What is wrong with them.
pub(super) fn parse(schema: Field<RawSchema>) -> Result<Vec<Definition>, String> {
    let texts = match schema {
        Field::Absent => return Ok(Vec::new()),
        Field::Wrong(was) => return Err(format!("its schema is {was} instead of a list of definitions")),
        Field::Value(RawSchema(texts)) => texts,
    };
    if texts.len() > Schema::MOST || texts.iter().map(String::len).sum::<usize>() > MOST_TEXT {
        return Err(format!(
            "its schema has more than {} definitions or {} MiB",
            Schema::MOST,
            MOST_TEXT >> 20
        ));
    }
    let parse = |(at, text): (usize, &String)| {
        Definition::parse(text).map_err(|error| format!("its schema cannot be read: definition {}: {error}", at + 1))
    };
    texts.iter().enumerate().map(parse).collect()
}

/// The standard schema with what the sources have beyond it. Equal definitions are one; of those that differ the
/// first one stands, and the others are told by name.
pub(super) fn unite<'d>(sources: impl Iterator<Item = (&'d str, &'d [Definition])>, drops: &mut Drops) -> Schema {
    let mut schema = Schema::standard();
    let mut source_of = Vec::new();
    for (source, definitions) in sources {
        source_of.extend(definitions.iter().map(|definition| (source, definition)));
    }
    for (refused, reason) in schema.unite(source_of.iter().map(|(_, definition)| *definition)) {
        let own = source_of
            .iter()
            .find(|(_, definition)| std::ptr::eq(*definition, refused));
        let source = own.map_or("", |(source, _)| source);
        drops.add(source, Kind::Definition, refused.name(), "definition", || {
            (reason.to_string(), hint(&reason).to_owned())
        });
    }
    schema
}

fn hint(reason: &Refused) -> &'static str {
    match reason {
        Refused::Otherwise(_) => {
            "let all schema files that are published to this host say the same of it, or give it a name and an OID of \
             its own; until then the other one stands"
        }
        Refused::Unknown(_) => {
            "define that in the same schema folder, or update this host's programs if it is standard"
        }
        Refused::Deep => "derive it from one that is further up",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BADGE: &str = "attributetype ( 1.3.6.1.4.1.99999.1 NAME 'corpBadge' SUP name )";

    fn given(texts: &[&str]) -> Result<Vec<Definition>, String> {
        parse(Field::Value(RawSchema(
            texts.iter().map(|text| (*text).to_owned()).collect(),
        )))
    }

    #[test]
    fn what_is_no_definition_is_told_with_its_place() {
        assert!(parse(Field::Absent).unwrap().is_empty());
        for (schema, says) in [
            (parse(Field::Wrong("a number")), "a number instead of a list"),
            (
                given(&[BADGE, "attributetype ( 1.2.3"]),
                "definition 2: the definition is cut short",
            ),
            (
                given(&[BADGE, &format!("{BADGE} {BADGE}")]),
                "definition 2: something follows",
            ),
            (given(&vec![BADGE; Schema::MOST + 1]), "more than 8192"),
            (given(&vec![BADGE.repeat(900).as_str(); 80]), "4 MiB"),
        ] {
            let error = schema.unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn sources_say_it_together_and_who_differs_is_named() {
        let other = BADGE.replace("SUP name", "EQUALITY integerMatch");
        let (one, two) = (given(&[BADGE]).unwrap(), given(&[BADGE, &other]).unwrap());
        let mut drops = Drops::default();
        let schema = unite(
            [("tree", one.as_slice()), ("tree-db", two.as_slice())].into_iter(),
            &mut drops,
        );
        assert_eq!(schema.extension().count(), 1);
        let [refused] = drops.entries.as_slice() else {
            panic!("{drops:?}");
        };
        assert_eq!((refused.source.as_str(), refused.kind), ("tree-db", Kind::Definition));
        assert_eq!(
            (refused.name.as_str(), refused.code.as_str()),
            ("corpBadge", "definition")
        );
        assert!(refused.reason.contains("1.3.6.1.4.1.99999.1"), "{}", refused.reason);
    }
}
