//! Joining: what the backend would need to add a host of its own.

use dirless_seal::trust::{
    FormatError, JoinCode, JoinCodeError, JoinRequest, JoinSecret, Node, NodeList, Object, Revoked, Wrap, node_name,
    parse, print,
};
use dirless_seal::{Digest, Identity, Note, SigningKey};

use crate::support::{Tenant, at, label, signed};

fn code(tenant: &Tenant) -> JoinCode {
    JoinCode {
        url: "https://dirless.example:8443".to_owned(),
        tenant: tenant.id,
        roots: tenant.policy().fingerprint(),
        policy: 1,
        compartments: [label("web")].into(),
        code: label("web-7f3a"),
        secret: JoinCode::secret().unwrap(),
    }
}

/// A key that bears its own name, as nodes do.
fn node_key() -> SigningKey {
    let nameless = SigningKey::generate(label("n")).unwrap();
    nameless.renamed(node_name(nameless.verifying().as_bytes()))
}

#[test]
fn a_code_is_one_word_that_notices_mistyping() {
    let tenant = Tenant::new();
    let code = code(&tenant);
    let text = code.expose().unwrap();
    assert!(!text.contains(char::is_whitespace) && text.starts_with("dirless-join-1-"));
    let read = JoinCode::parse(&format!("  {}\n", text.as_str())).unwrap();
    assert_eq!(
        (read.url, read.tenant, read.roots),
        (code.url.clone(), code.tenant, code.roots)
    );
    assert_eq!(read.secret.expose(), code.secret.expose());
    for at in [20, 60, text.len() - 1] {
        let mut wrong = text.as_bytes().to_vec();
        wrong[at] = if wrong[at] == b'A' { b'B' } else { b'A' };
        let error = JoinCode::parse(std::str::from_utf8(&wrong).unwrap()).unwrap_err();
        assert_eq!(error, JoinCodeError::Damaged, "{at}");
    }
    assert_eq!(
        JoinCode::parse(&text[..text.len() - 3]).unwrap_err(),
        JoinCodeError::Damaged
    );
    assert_eq!(JoinCode::parse("hello").unwrap_err(), JoinCodeError::Prefix);
    assert!(!format!("{code:?}{:?}", code.secret).contains(code.secret.expose().as_str()));
}

#[test]
fn the_bearer_is_the_documented_one() {
    // Computed with another program: HMAC-SHA256 under 32 bytes of 7.
    let secret: JoinSecret = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc".parse().unwrap();
    let bearer = secret.bearer(Digest::of(b"tenant"), &label("web"));
    assert_eq!(bearer.as_str(), "T8ddJRMfqSgJTPeo81bI8zMXbMrKgstoG-CuPiziuak");
    assert_ne!(secret.bearer(Digest::of(b"tenant"), &label("web2")), bearer);
    assert_ne!(secret.bearer(Digest::of(b"other"), &label("web")), bearer);
}

#[test]
fn whoever_has_the_code_gets_in_and_nobody_else() {
    let tenant = Tenant::new();
    let code = code(&tenant);
    let (key, identity) = (node_key(), Identity::generate());
    let note = JoinRequest::ask(&code, at(0), "web-1.example", &key, &identity.recipient()).unwrap();
    let request = JoinRequest::read(&note).unwrap();
    assert_eq!(request.code, code.code);
    assert!(request.check(&note, tenant.id, &code.secret).is_ok());

    let other = JoinCode::secret().unwrap();
    assert_eq!(request.check(&note, tenant.id, &other).unwrap_err().code(), "forged");
    assert_eq!(
        request.check(&note, Digest::of(b"x"), &code.secret).unwrap_err().code(),
        "other-tenant"
    );

    // The backend puts its own key in place of the host's.
    let rogue = node_key();
    let changed = JoinRequest {
        key: rogue.verifying().clone(),
        ..request.clone()
    };
    let note = signed(&changed, &[&rogue]);
    assert_eq!(
        changed.check(&note, tenant.id, &code.secret).unwrap_err().code(),
        "forged"
    );
    // Or asks for the keys of an admitted host to be wrapped to itself.
    let changed = JoinRequest {
        recipient: Identity::generate().recipient(),
        ..request.clone()
    };
    let note = signed(&changed, &[&key]);
    assert_eq!(
        changed.check(&note, tenant.id, &code.secret).unwrap_err().code(),
        "forged"
    );
    // Or takes a name that is not its own.
    let named = SigningKey::generate(label("n0000000000000000")).unwrap();
    let note = JoinRequest::ask(&code, at(0), "web-1", &named, &identity.recipient()).unwrap();
    let request = JoinRequest::read(&note).unwrap();
    assert_eq!(
        request.check(&note, tenant.id, &code.secret).unwrap_err().code(),
        "forged"
    );
}

#[test]
fn host_names_with_blanks_are_none() {
    let tenant = Tenant::new();
    let code = code(&tenant);
    let recipient = Identity::generate().recipient();
    for host in ["", "a b", &"x".repeat(254)] {
        assert!(
            JoinRequest::ask(&code, at(0), host, &node_key(), &recipient).is_err(),
            "{host:?}"
        );
    }
}

#[test]
fn a_wrap_opens_for_its_node_alone() {
    let tenant = Tenant::new();
    let identity = Identity::generate();
    let wrap = Wrap {
        tenant: tenant.id,
        compartment: label("all"),
        epoch: 3,
        identity: Identity::generate(),
    };
    let sealed = wrap.seal(&identity.recipient()).unwrap();
    let opened = Wrap::open(&sealed, &identity).unwrap();
    assert_eq!((opened.epoch, opened.compartment), (3, label("all")));
    assert_eq!(opened.identity.recipient(), wrap.identity.recipient());
    assert!(Wrap::open(&sealed, &Identity::generate()).is_err());
    assert!(Wrap::open(&sealed[..sealed.len() - 1], &identity).is_err());
    assert!(!format!("{wrap:?}").contains("SECRET"));
}

fn list(tenant: &Tenant, nodes: Vec<Node>) -> NodeList {
    NodeList {
        tenant: tenant.id,
        enroller: label("enroller-1"),
        version: 1,
        previous: None,
        issued: at(0),
        nodes,
        revoked: vec![],
        renewals: vec![],
    }
}

fn node() -> Node {
    Node {
        key: node_key().verifying().clone(),
        recipient: Identity::generate().recipient(),
        compartments: [label("all"), label("web")].into(),
        joined: at(-5),
    }
}

#[test]
fn node_lists_survive_their_text() {
    let tenant = Tenant::new();
    let mut nodes: Vec<_> = (0..20).map(|_| node()).collect();
    nodes.sort_by(|left, right| left.key.name().cmp(right.key.name()));
    let list = NodeList {
        revoked: vec![Revoked {
            name: label("n00"),
            at: at(0),
        }],
        renewals: vec![],
        ..list(&tenant, nodes)
    };
    let note = signed(&list, &[&tenant.enroller]);
    assert!(note.to_string().len() < NodeList::MOST);
    let read: NodeList = parse(&note).unwrap();
    assert_eq!(read, list);
    for node in &list.nodes {
        assert_eq!(read.node(node.key.name()), Some(node));
    }
    assert!(read.is_revoked(&label("n00")) && !read.is_revoked(list.nodes[0].key.name()));
    assert_eq!(read.node(&label("n00")), None);
}

#[test]
fn a_list_that_contradicts_itself_is_none() {
    let tenant = Tenant::new();
    let doubled = node();
    let twice = list(&tenant, vec![doubled.clone(), doubled.clone()]);
    assert!(matches!(print(&twice), Err(FormatError::Contradiction(_))));
    let revoked = NodeList {
        revoked: vec![Revoked {
            name: doubled.key.name().clone(),
            at: at(0),
        }],
        renewals: vec![],
        ..list(&tenant, vec![doubled.clone()])
    };
    assert!(print(&revoked).unwrap_err().to_string().contains("both"));
    let misnamed = Node {
        key: SigningKey::generate(label("n1")).unwrap().verifying().clone(),
        ..doubled
    };
    assert!(
        print(&list(&tenant, vec![misnamed]))
            .unwrap_err()
            .to_string()
            .contains("own key")
    );
    let unsigned = Note::parse(b"dirless/nodes/v1\n\n\xe2\x80\x94 x AAAAAAAA\n", 100).unwrap();
    assert!(parse::<NodeList>(&unsigned).is_err());
}
