//! Consumers of content synchronisation (RFC 4533).

use super::*;

/// A consumer reads everything, then only what became of it (RFC 4533).
#[tokio::test]
async fn consumers_are_told_what_changed() {
    let tools = Tools::start("").await;
    let sync = |cookie: &str| {
        let control = if cookie.is_empty() {
            "!sync=ro".to_owned()
        } else {
            format!("!sync=ro/{cookie}")
        };
        ["-E".to_owned(), control, "(objectClass=*)".to_owned(), "dn".to_owned()]
    };
    let read = async |cookie: &str| {
        let arguments = sync(cookie);
        let arguments: Vec<&str> = ["-b", "dc=dirless"]
            .into_iter()
            .chain(arguments.iter().map(String::as_str))
            .collect();
        tools.expect(0, "ldapsearch", As::Root, &arguments, "").await
    };
    let cookie = |text: &str| {
        let line = text
            .lines()
            .find_map(|line| line.split_once("cookie: ").or_else(|| line.split_once("cookie:: ")));
        line.map(|(_, cookie)| cookie.trim().to_owned())
            .unwrap_or_else(|| panic!("no cookie in {text}"))
    };
    let first = read("").await;
    assert_eq!(first.matches("dn: ").count(), 48, "{first}");
    let ou = "dn: ou=team,ou=users,dc=dirless\nobjectClass: organizationalUnit\n\ndn: uid=x,ou=team,ou=users,dc=dirless\nobjectClass: account\n";
    tools.expect(0, "ldapadd", As::Root, &[], ou).await;
    tools.expect(0, "ldapdelete", As::Root, &[BOB], "").await;
    let second = read(&cookie(&first)).await;
    assert_eq!(second.matches("dn: ").count(), 2, "{second}");
    tools
        .expect(
            0,
            "ldapmodrdn",
            As::Root,
            &["ou=team,ou=users,dc=dirless", "ou=crew"],
            "",
        )
        .await;
    let third = read(&cookie(&second)).await;
    assert!(
        third.contains("dn: uid=x,ou=crew,ou=users,dc=dirless") && third.matches("dn: ").count() == 2,
        "{third}"
    );
    let fourth = read(&cookie(&third)).await;
    assert_eq!(fourth.matches("dn: ").count(), 0, "{fourth}");
    tools.site.stop().await;
}
