use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

fn permission(text: &str) -> Permission {
    Permission::parse(text).unwrap()
}

#[test]
fn a_permission_covers_what_it_says_and_no_more() {
    for (own, asked, covers) in [
        ("document:read:own", "document:read:own", true),
        ("document:read:own", "Document:READ:own", true),
        ("document:read:own", "document:read:all", false),
        ("document:read:own", "document:write:own", false),
        ("document:read:own", "documents:read:own", false),
        ("document:*:own", "document:delete:own", true),
        ("*:read:*", "anything:read:tenant:acme", true),
        ("*:read:*", "anything:write:tenant", false),
        ("*", "a:b:c", true),
        ("*:*:*", "*", true),
        ("document:read:own", "document:read:*", false),
        ("document:read:*", "document:read:*", true),
        ("config.*:read:*", "config.mail:read:x", true),
        ("config.*:read:*", "config:read:x", false),
        ("config.*:read:*", "config.mail*:read:x", true),
        ("config.mail*:read:*", "config.*:read:x", false),
        ("a:b:tenant:acme", "a:b:tenant:acme", true),
        ("a:b:tenant:*", "a:b:tenant:acme", true),
        ("a:b:tenant", "a:b:tenant:acme", false),
    ] {
        assert_eq!(permission(own).covers(&permission(asked)), covers, "{own} over {asked}");
    }
}

#[test]
fn what_is_no_permission_says_how_to_write_one() {
    for text in ["", "a", "a:b", "a::c", ":b:c", "a:b:", "a*b:c:d", "**:b:c", "a:b:*c"] {
        let error = Permission::parse(text).unwrap_err().to_string();
        assert!(error.contains("resource:action:scope"), "{text}: {error}");
    }
}

/// Roles by name: permissions and what they inherit.
type Roles = BTreeMap<&'static str, (Vec<&'static str>, Vec<&'static str>)>;

fn roles() -> Roles {
    BTreeMap::from([
        ("reader", (vec!["document:read:*"], vec![])),
        ("editor", (vec!["document:write:own"], vec!["reader"])),
        ("owner", (vec!["*"], vec![])),
        ("a", (vec!["a:a:a"], vec!["b"])),
        ("b", (vec!["b:b:b"], vec!["c"])),
        ("c", (vec!["nonsense"], vec!["a", "gone"])),
        ("left", (vec![], vec!["reader"])),
        ("right", (vec![], vec!["reader"])),
        ("top", (vec![], vec!["left", "right"])),
    ])
}

fn ask(roles: &Roles, assigned: &[&str], asked: &str) -> Answer {
    let assignments = assigned.iter().map(|role| Assignment {
        role: (*role).to_owned(),
        via: vec![Step::new(StepKind::User, "u")],
        place: (),
    });
    check(&permission(asked), assignments.collect(), |name, ()| {
        let own = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Ok::<_, Infallible>(roles.get(name).map(|(permissions, inherits)| {
            let role = Role {
                id: name.to_owned(),
                permissions: own(permissions),
                inherits: own(inherits),
            };
            (role, ())
        }))
    })
    .unwrap()
}

fn names(answer: &Answer) -> Vec<&str> {
    answer.chain.iter().map(|step| step.name.as_str()).collect()
}

#[test]
fn the_answer_names_the_chain_that_says_so() {
    let roles = roles();
    let answer = ask(&roles, &["editor"], "document:write:own");
    assert_eq!(names(&answer), ["u", "editor", "document:write:own"]);
    let answer = ask(&roles, &["editor"], "document:read:all");
    assert_eq!(names(&answer), ["u", "editor", "reader", "document:read:*"]);
    assert_eq!(answer.chain.last().unwrap().kind, StepKind::Permission);
    let answer = ask(&roles, &["editor", "reader"], "document:read:all");
    assert_eq!(names(&answer), ["u", "reader", "document:read:*"], "the shortest one");
    let answer = ask(&roles, &["editor"], "document:delete:own");
    assert!(!answer.allowed && answer.chain.is_empty() && answer.notes.is_empty());
    assert!(!ask(&roles, &[], "a:a:a").allowed);
}

#[test]
fn cycles_end_and_are_told_and_shared_roles_are_no_cycles() {
    let roles = roles();
    let answer = ask(&roles, &["a"], "x:y:z");
    assert!(!answer.allowed);
    let notes = answer.notes.join("\n");
    assert!(notes.contains("a inherits from itself"), "{notes}");
    assert!(notes.contains("c names the role \"gone\""), "{notes}");
    assert!(notes.contains("\"nonsense\" is no permission"), "{notes}");
    assert!(
        ask(&roles, &["b"], "a:a:a").allowed,
        "a cycle still grants what is on it"
    );
    let answer = ask(&roles, &["top"], "x:y:z");
    assert_eq!(answer.notes, Vec::<String>::new(), "two ways to one role are fine");
}

#[test]
fn a_role_that_is_not_there_is_told_with_who_names_it() {
    let answer = ask(&roles(), &["none"], "x:y:z");
    assert_eq!(answer.notes, ["u names the role \"none\", which is not there"]);
}

fn part() -> impl Strategy<Value = String> {
    prop_oneof![Just("*".to_owned()), "[ab]{1,2}\\*?".prop_map(|text: String| text)]
}

fn any_permission() -> impl Strategy<Value = String> {
    (part(), part(), part()).prop_map(|(a, b, c)| format!("{a}:{b}:{c}"))
}

proptest! {
    #[test]
    fn texts_survive_parsing(text in any_permission()) {
        prop_assert_eq!(permission(&text).to_string(), text.clone());
        prop_assert!(permission(&text).covers(&permission(&text)));
        prop_assert!(permission("*").covers(&permission(&text)));
    }

    #[test]
    fn covering_is_transitive(a in any_permission(), b in any_permission(), c in any_permission()) {
        let (a, b, c) = (permission(&a), permission(&b), permission(&c));
        if a.covers(&b) && b.covers(&c) {
            prop_assert!(a.covers(&c));
        }
        if a.covers(&b) && b.covers(&a) {
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}") {
        let _ = Permission::parse(&text);
    }

    /// However roles inherit, the walk ends, and says yes exactly when a role that can be reached
    /// says so.
    #[test]
    fn the_walk_agrees_with_reachability(
        edges in proptest::collection::vec((0usize..6, 0usize..7), 0..14),
        has in proptest::collection::vec(any::<bool>(), 6),
        start in 0usize..6,
    ) {
        let inherits = |at: usize| edges.iter().filter(move |(from, _)| *from == at).map(|(_, to)| *to);
        let mut reached = BTreeSet::from([start]);
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            for to in inherits(at).filter(|to| *to < 6) {
                if reached.insert(to) {
                    open.push(to);
                }
            }
        }
        let wanted = reached.iter().any(|at| has[*at]);
        let assignment = Assignment {
            role: start.to_string(),
            via: vec![Step::new(StepKind::User, "u")],
            place: (),
        };
        let answer = check(&permission("x:y:z"), vec![assignment], |name, ()| {
            let at: usize = name.parse().unwrap();
            Ok::<_, Infallible>((at < 6).then(|| {
                let permissions = if has[at] { vec!["x:*:z".to_owned()] } else { Vec::new() };
                let inherits = inherits(at).map(|to| to.to_string()).collect();
                (Role { id: name.to_owned(), permissions, inherits }, ())
            }))
        })
        .unwrap();
        prop_assert_eq!(answer.allowed, wanted);
        if wanted {
            let roles: Vec<usize> = answer.chain.iter()
                .filter(|step| step.kind == StepKind::Role)
                .map(|step| step.name.parse().unwrap())
                .collect();
            prop_assert_eq!(roles[0], start);
            prop_assert!(roles.windows(2).all(|pair| inherits(pair[0]).any(|to| to == pair[1])));
            prop_assert!(has[*roles.last().unwrap()]);
        }
    }
}
