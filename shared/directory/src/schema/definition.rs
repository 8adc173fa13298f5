//! The notation of RFC 4512 section 4.1 for attribute types and object classes.

use super::{AttributeType, ClassKind, ObjectClass, Usage};
use crate::name::{is_descr, is_numeric_oid};

/// Why a definition cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// A definition starts with `attributetype` or `objectclass`.
    #[error("expected attributetype or objectclass, found {0:?}")]
    Kind(String),
    /// Something follows the one definition that was to be read.
    #[error("something follows the definition")]
    Several,
    /// It is longer than any definition.
    #[error("the definition is longer than 64 KiB")]
    Long,
    /// The text ends in the middle.
    #[error("the definition is cut short")]
    End,
    /// An OID or a name is neither numbers with dots nor letters, digits, `-` and `_` (RFC 4512 section 1.4).
    #[error("{0:?} is no name and no OID")]
    Name(String),
    /// Something else was expected.
    #[error("expected {expected}, found {found:?}")]
    Expected {
        /// What the notation asks for.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
}

/// One definition.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Attribute(AttributeType),
    Class(ObjectClass),
}

/// The definitions of `text` in order, each with its line. Blank lines and lines that start with `#`
/// are passed over.
pub(super) fn items(text: &str) -> impl Iterator<Item = Result<(usize, Item), (usize, DefinitionError)>> {
    let mut tokens = Tokens {
        rest: text,
        line: 1,
        passed: String::new(),
    };
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let keyword = tokens.next()?;
        let line = tokens.line;
        let item = match keyword.to_ascii_lowercase().as_str() {
            "attributetype" => attribute(&mut tokens).map(Item::Attribute),
            "objectclass" => class(&mut tokens).map(Item::Class),
            _ => Err(DefinitionError::Kind(keyword.to_owned())),
        };
        failed = item.is_err();
        Some(item.map(|item| (line, item)).map_err(|error| (tokens.line, error)))
    })
}

struct Tokens<'a> {
    rest: &'a str,
    line: usize,
    /// The tokens since the last [`Tokens::mark`], on one line and without what was written between them.
    passed: String,
}

impl<'a> Tokens<'a> {
    /// The next word, parenthesis, `$` or quoted string (with its quotes); none at the end.
    fn next(&mut self) -> Option<&'a str> {
        loop {
            let trimmed = self.rest.trim_start();
            let passed = self.rest.len() - trimmed.len();
            self.line += self.rest.get(..passed).map_or(0, |blank| blank.matches('\n').count());
            self.rest = trimmed;
            if !self.rest.starts_with('#') {
                break;
            }
            let end = self.rest.find('\n').unwrap_or(self.rest.len());
            self.rest = self.rest.get(end..).unwrap_or_default();
        }
        let length = match self.rest.chars().next()? {
            '(' | ')' | '$' => 1,
            '\'' => self.rest.get(1..)?.find('\'').map_or(self.rest.len(), |end| end + 2),
            _ => self
                .rest
                .find(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '$'))
                .unwrap_or(self.rest.len()),
        };
        let (token, rest) = self.rest.split_at_checked(length)?;
        self.line += token.matches('\n').count();
        self.rest = rest;
        if !self.passed.is_empty() {
            self.passed.push(' ');
        }
        self.passed
            .extend(token.chars().map(|c| if c.is_control() { ' ' } else { c }));
        Some(token)
    }

    /// Starts the text of a definition anew.
    fn mark(&mut self) {
        self.passed.clear();
    }

    /// The text since the mark, as the subschema subentry shows it.
    fn passed(&mut self) -> Box<str> {
        std::mem::take(&mut self.passed).into()
    }

    fn word(&mut self) -> Result<&'a str, DefinitionError> {
        self.next().ok_or(DefinitionError::End)
    }

    fn open(&mut self) -> Result<(), DefinitionError> {
        match self.word()? {
            "(" => Ok(()),
            found => Err(DefinitionError::Expected {
                expected: "(",
                found: found.to_owned(),
            }),
        }
    }

    fn quoted(&mut self) -> Result<&'a str, DefinitionError> {
        let token = self.word()?;
        unquote(token).ok_or_else(|| DefinitionError::Expected {
            expected: "a quoted string",
            found: token.to_owned(),
        })
    }

    /// One quoted string, or several in parentheses.
    fn quoted_list(&mut self) -> Result<Vec<Box<str>>, DefinitionError> {
        let token = self.word()?;
        if token != "(" {
            return unquote(token)
                .map(|name| vec![name.into()])
                .ok_or_else(|| DefinitionError::Expected {
                    expected: "a quoted string or a list of them",
                    found: token.to_owned(),
                });
        }
        let mut list = Vec::new();
        loop {
            match self.word()? {
                ")" => return Ok(list),
                token => list.push(
                    unquote(token)
                        .ok_or_else(|| DefinitionError::Expected {
                            expected: "a quoted string or )",
                            found: token.to_owned(),
                        })?
                        .into(),
                ),
            }
        }
    }

    /// The names of a definition.
    fn names(&mut self) -> Result<Vec<Box<str>>, DefinitionError> {
        let names = self.quoted_list()?;
        names.iter().try_for_each(|name| named(name).map(drop))?;
        Ok(names)
    }

    /// An OID or a name.
    fn oid(&mut self) -> Result<Box<str>, DefinitionError> {
        self.word().and_then(named)
    }

    /// An OID, without the length in braces that may follow it (`noidlen`): that is a hint (RFC 4512
    /// section 4.1.2) and bounds nothing.
    fn syntax(&mut self) -> Result<Box<str>, DefinitionError> {
        let word = self.word()?;
        let Some((oid, length)) = word.split_once('{') else {
            return named(word);
        };
        match length.strip_suffix('}') {
            Some(length) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => named(oid),
            _ => Err(DefinitionError::Name(word.to_owned())),
        }
    }

    /// One OID or name, or several separated by `$` in parentheses.
    fn oid_list(&mut self) -> Result<Vec<Box<str>>, DefinitionError> {
        let first = self.word()?;
        if first != "(" {
            return named(first).map(|oid| vec![oid]);
        }
        let mut list = Vec::new();
        loop {
            match self.word()? {
                ")" => return Ok(list),
                "$" => {}
                oid => list.push(named(oid)?),
            }
        }
    }

    /// Passes over an extension (`X-…`) and its value.
    fn skip_extension(&mut self, name: &str) -> Result<(), DefinitionError> {
        named(name)?;
        self.quoted_list().map(drop)
    }
}

fn unquote(token: &str) -> Option<&str> {
    token.strip_prefix('\'')?.strip_suffix('\'')
}

/// A name or an OID that may stand in names of entries, in filters and in messages.
fn named(text: &str) -> Result<Box<str>, DefinitionError> {
    if is_descr(text) || is_numeric_oid(text) {
        Ok(text.into())
    } else {
        Err(DefinitionError::Name(text.to_owned()))
    }
}

fn attribute(tokens: &mut Tokens<'_>) -> Result<AttributeType, DefinitionError> {
    tokens.mark();
    tokens.open()?;
    let mut attribute = AttributeType {
        oid: named(tokens.word()?)?,
        names: Vec::new(),
        description: None,
        superior: None,
        equality: None,
        ordering: None,
        substring: None,
        syntax: None,
        single_value: false,
        no_user_modification: false,
        usage: Usage::UserApplications,
        text: Box::default(),
    };
    loop {
        match tokens.word()? {
            ")" => break,
            "NAME" => attribute.names = tokens.names()?,
            "DESC" => attribute.description = Some(tokens.quoted()?.into()),
            "SUP" => attribute.superior = Some(tokens.oid()?),
            "EQUALITY" => attribute.equality = Some(tokens.oid()?),
            "ORDERING" => attribute.ordering = Some(tokens.oid()?),
            "SUBSTR" => attribute.substring = Some(tokens.oid()?),
            "SYNTAX" => attribute.syntax = Some(tokens.syntax()?),
            "SINGLE-VALUE" => attribute.single_value = true,
            "NO-USER-MODIFICATION" => attribute.no_user_modification = true,
            "COLLECTIVE" | "OBSOLETE" => {}
            "USAGE" => {
                attribute.usage = match tokens.word()? {
                    "userApplications" => Usage::UserApplications,
                    "directoryOperation" | "distributedOperation" | "dSAOperation" => Usage::Operational,
                    found => {
                        return Err(DefinitionError::Expected {
                            expected: "a usage",
                            found: found.to_owned(),
                        });
                    }
                }
            }
            extension if extension.starts_with("X-") => tokens.skip_extension(extension)?,
            found => {
                return Err(DefinitionError::Expected {
                    expected: "a part of an attribute type",
                    found: found.to_owned(),
                });
            }
        }
    }
    attribute.text = tokens.passed();
    Ok(attribute)
}

fn class(tokens: &mut Tokens<'_>) -> Result<ObjectClass, DefinitionError> {
    tokens.mark();
    tokens.open()?;
    let mut class = ObjectClass {
        oid: named(tokens.word()?)?,
        names: Vec::new(),
        description: None,
        superiors: Vec::new(),
        kind: ClassKind::Structural,
        must: Vec::new(),
        may: Vec::new(),
        text: Box::default(),
    };
    loop {
        match tokens.word()? {
            ")" => break,
            "NAME" => class.names = tokens.names()?,
            "DESC" => class.description = Some(tokens.quoted()?.into()),
            "SUP" => class.superiors = tokens.oid_list()?,
            "ABSTRACT" => class.kind = ClassKind::Abstract,
            "STRUCTURAL" => class.kind = ClassKind::Structural,
            "AUXILIARY" => class.kind = ClassKind::Auxiliary,
            "MUST" => class.must = tokens.oid_list()?,
            "MAY" => class.may = tokens.oid_list()?,
            "OBSOLETE" => {}
            extension if extension.starts_with("X-") => tokens.skip_extension(extension)?,
            found => {
                return Err(DefinitionError::Expected {
                    expected: "a part of an object class",
                    found: found.to_owned(),
                });
            }
        }
    }
    class.text = tokens.passed();
    Ok(class)
}
