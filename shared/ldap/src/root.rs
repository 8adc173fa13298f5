//! The two entries that the server itself has: RootDSE (RFC 4512 section 5.1) and the subschema
//! subentry (section 4.2).

use std::fmt::Write;

use dirless_directory::encoded::put_attribute;
use dirless_directory::{DnKey, Schema};

use crate::controls::SUPPORTED;
use crate::reply::put_value;
use crate::{Directory, State};

/// Where the schema is published.
pub(crate) const SUBSCHEMA_DN: &str = "cn=Subschema";

pub(crate) const START_TLS: &str = "1.3.6.1.4.1.1466.20037";
pub(crate) const WHO_AM_I: &str = "1.3.6.1.4.1.4203.1.11.3";
pub(crate) const CANCEL: &str = "1.3.6.1.1.8";
pub(crate) const MODIFY_PASSWORD: &str = "1.3.6.1.4.1.4203.1.11.1";

/// All operational attributes (RFC 3673), absolute filters (RFC 4526), attributes by object class
/// (RFC 4529), modify-increment (RFC 4525).
const FEATURES: [&str; 4] = [
    "1.3.6.1.4.1.4203.1.5.1",
    "1.3.6.1.4.1.4203.1.5.3",
    "1.3.6.1.4.1.4203.1.5.2",
    "1.3.6.1.1.14",
];

/// What RootDSE says that depends on the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offered {
    /// The kernel says who is at the other end of the socket.
    pub(crate) external: bool,
    /// TLS may be started.
    pub(crate) start_tls: bool,
}

fn assemble(user: &[u8], operational: &[u8]) -> Vec<u8> {
    let length = u32::try_from(user.len()).unwrap_or(0);
    [&length.to_be_bytes(), user, operational].concat()
}

fn put_all<'a>(out: &mut Vec<u8>, name: &str, values: impl Iterator<Item = &'a str> + Clone) {
    if values.clone().next().is_some() {
        put_attribute(out, name, values.map(str::as_bytes));
    }
}

/// RootDSE in encoded form.
pub(crate) fn root_dse(directory: &dyn Directory, state: &State, offered: Offered) -> Vec<u8> {
    let mut user = Vec::new();
    put_value(&mut user, "objectClass", "top");
    let mut operational = Vec::new();
    let contexts: Vec<String> = directory.naming_contexts().iter().map(ToString::to_string).collect();
    put_all(&mut operational, "namingContexts", contexts.iter().map(String::as_str));
    put_all(&mut operational, "supportedControl", SUPPORTED.iter().copied());
    let start_tls = offered.start_tls.then_some(START_TLS);
    let sets = directory.writer().is_some_and(|writer| writer.sets_passwords());
    let passwords = sets.then_some(MODIFY_PASSWORD);
    put_all(
        &mut operational,
        "supportedExtension",
        [WHO_AM_I, CANCEL].into_iter().chain(passwords).chain(start_tls),
    );
    put_all(&mut operational, "supportedFeatures", FEATURES.iter().copied());
    put_value(&mut operational, "supportedLDAPVersion", "3");
    if offered.external {
        put_value(&mut operational, "supportedSASLMechanisms", "EXTERNAL");
    }
    put_value(&mut operational, "vendorName", "Dirless");
    put_value(&mut operational, "vendorVersion", env!("CARGO_PKG_VERSION"));
    put_value(
        &mut operational,
        "contextCSN",
        &format!("{}#{}", state.lineage, state.number),
    );
    put_value(&mut operational, "subschemaSubentry", SUBSCHEMA_DN);
    assemble(&user, &operational)
}

/// The key of the subschema subentry.
pub(crate) fn subschema_key(schema: &Schema) -> Option<DnKey> {
    schema.dn_key(&dirless_directory::Dn::parse(SUBSCHEMA_DN).ok()?)
}

/// The subschema subentry in encoded form.
pub(crate) fn subschema(schema: &Schema) -> Vec<u8> {
    let mut user = Vec::new();
    put_value(&mut user, "cn", "Subschema");
    put_all(
        &mut user,
        "objectClass",
        ["top", "subentry", "subschema", "extensibleObject"].into_iter(),
    );
    let mut operational = Vec::new();
    let mut put = |name: &str, values: Vec<String>| {
        put_all(&mut operational, name, values.iter().map(String::as_str));
    };
    put("attributeTypes", schema.attributes().map(ToString::to_string).collect());
    put("objectClasses", schema.classes().map(ToString::to_string).collect());
    let in_chain = format!(
        "( {} NAME 'LDAP_MATCHING_RULE_IN_CHAIN' SYNTAX 1.3.6.1.4.1.1466.115.121.1.12 )",
        crate::chain::IN_CHAIN
    );
    put("matchingRules", schema.rule_definitions().chain([in_chain]).collect());
    put("matchingRuleUse", rule_uses(schema));
    put("ldapSyntaxes", syntaxes(schema));
    // The one entry that X.501 has a rule for: this one.
    put(
        "dITContentRules",
        vec!["( 2.5.17.0 NAME 'subentryContentRule' AUX ( subschema $ extensibleObject ) )".to_owned()],
    );
    put(
        "nameForms",
        vec!["( 2.5.15.16 NAME 'subentryNameForm' OC subentry MUST cn )".to_owned()],
    );
    put(
        "dITStructureRules",
        vec!["( 1 NAME 'subentryStructureRule' FORM subentryNameForm )".to_owned()],
    );
    assemble(&user, &operational)
}

/// Which attributes each matching rule may be asserted on (RFC 4512 section 4.1.4).
fn rule_uses(schema: &Schema) -> Vec<String> {
    let definitions: Vec<String> = schema.rule_definitions().collect();
    definitions
        .iter()
        .filter_map(|definition| {
            let oid = definition.split(' ').nth(1)?;
            let name = definition.split('\'').nth(1)?;
            let rule = schema.rule(oid);
            let attributes: Vec<&str> = schema
                .attributes()
                .map(dirless_directory::schema::AttributeType::name)
                .filter(|attribute| schema.equality(attribute) == rule)
                .collect();
            (!attributes.is_empty()).then(|| {
                let mut text = format!("( {oid} NAME '{name}' APPLIES ( ");
                let _ = write!(text, "{} ) )", attributes.join(" $ "));
                text
            })
        })
        .collect()
}

/// The syntaxes that attributes have.
fn syntaxes(schema: &Schema) -> Vec<String> {
    let mut oids: Vec<&str> = schema
        .attributes()
        .filter_map(|attribute| attribute.syntax.as_deref())
        .collect();
    oids.sort_unstable();
    oids.dedup();
    oids.iter()
        .map(|oid| match syntax_name(oid) {
            Some(name) => format!("( {oid} DESC '{name}' )"),
            None => format!("( {oid} )"),
        })
        .collect()
}

fn syntax_name(oid: &str) -> Option<&'static str> {
    let name = match oid.strip_prefix("1.3.6.1.4.1.1466.115.121.1.") {
        Some("3") => "Attribute Type Description",
        Some("5") => "Binary",
        Some("6") => "Bit String",
        Some("7") => "Boolean",
        Some("8") => "Certificate",
        Some("11") => "Country String",
        Some("12") => "DN",
        Some("15") => "Directory String",
        Some("22") => "Facsimile Telephone Number",
        Some("24") => "Generalized Time",
        Some("26") => "IA5 String",
        Some("27") => "INTEGER",
        Some("28") => "JPEG",
        Some("34") => "Name And Optional UID",
        Some("36") => "Numeric String",
        Some("37") => "Object Class Description",
        Some("38") => "OID",
        Some("39") => "Other Mailbox",
        Some("40") => "Octet String",
        Some("41") => "Postal Address",
        Some("44") => "Printable String",
        Some("50") => "Telephone Number",
        Some("52") => "Telex Number",
        _ if oid == "1.3.6.1.1.16.1" => "UUID",
        _ => return None,
    };
    Some(name)
}
