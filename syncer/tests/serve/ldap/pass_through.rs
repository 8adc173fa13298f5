//! Passwords that the source of a person decides about: OpenLDAP's.

use std::path::Path;
use std::sync::Mutex;

use dirless_directory::{AttributeName, Dn, Entry, Value};
use dirless_ldap::Verify;
use dirless_syncer::config::Config;
use dirless_syncer::serve::Sources;
use dirless_syncer::sources::ldap::{Bounds, LdapSource};
use dirless_syncer::sources::{Source as _, SourceKind, SourceSetting, Unwatched};
use dirless_syncer::tree::Actor;
use dirless_testkit::{Program, Running, isolated};

use super::*;

const PORT: u16 = 3897;

fn corp(folder: &Path) -> Running {
    let database = folder.join("db");
    std::fs::create_dir_all(&database).unwrap();
    let config = format!(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\n\
         include /etc/ldap/schema/nis.schema\ninclude /etc/ldap/schema/inetorgperson.schema\n\
         modulepath /usr/lib/ldap\nmoduleload back_mdb\ndatabase mdb\nsuffix dc=corp\nrootdn cn=admin,dc=corp\n\
         rootpw Adm1n\ndirectory {}\nmaxsize 104857600\ndbnosync\n\
         access to attrs=userPassword by anonymous auth by * none\naccess to * by * read\n",
        database.display()
    );
    let path = folder.join("slapd.conf");
    std::fs::write(&path, config).unwrap();
    let people = "dn: dc=corp\nobjectClass: dcObject\nobjectClass: organization\no: corp\ndc: corp\n\n\
        dn: uid=erin,dc=corp\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuid: erin\ncn: Erin\nsn: E\n\
        uidNumber: 2001\ngidNumber: 2001\nhomeDirectory: /home/erin\nuserPassword: at corp\n";
    let data = folder.join("data.ldif");
    std::fs::write(&data, people).unwrap();
    let add = Program::system("slapadd")
        .arg("-q")
        .arg("-f")
        .arg(&path)
        .arg("-l")
        .arg(&data);
    add.succeed().unwrap();
    let serve = Program::system("slapd").args(["-d", "0", "-h", &format!("ldap://127.0.0.1:{PORT}")]);
    serve.arg("-f").arg(&path).serve_on(PORT).unwrap()
}

fn config(folder: &Path) -> Config {
    let text = format!(
        "[backend]\nurl = \"https://d\"\n[syncer]\nstate_folder = {folder:?}\n[[source]]\nkind = \"ldap\"\nname = \"corp\"\n\
         url = \"ldap://127.0.0.1:{PORT}\"\npermit_plain = true\nbase = \"dc=corp\"\npreset = \"rfc2307bis\"\n\
         [serve.ldap]\nlisten = [\"127.0.0.1:0\"]\npass_through = [\"corp\"]\n"
    );
    Config::parse(&text, Path::new("/x")).unwrap()
}

/// The id that a person has at the source.
async fn id(config: &Config, login: &str) -> String {
    let all = SourceSetting::all(config);
    let SourceKind::Ldap(ldap) = &all[0].kind else {
        panic!("not LDAP")
    };
    let source = LdapSource::open("corp", ldap, Bounds::new(100, 100), None, &|_| None).unwrap();
    let directory = source.read(&Unwatched).await.unwrap();
    directory.users().find(|user| user.name == login).unwrap().id.clone()
}

fn entry(login: &str, source: &str, id: &str, more: &[(&str, &str)]) -> Entry {
    let mut entry = Entry::new(Dn::parse(&format!("uid={login},ou=users,dc=dirless")).unwrap());
    let own = [
        ("objectClass", "inetOrgPerson"),
        ("objectClass", "aitherUser"),
        ("aitherUserType", "human"),
        ("cn", login),
        ("sn", login),
        ("aitherSource", source),
        ("aitherSourceId", id),
    ];
    for (name, value) in own.iter().chain(more) {
        entry.add(AttributeName::parse(name).unwrap(), Value::from(*value));
    }
    entry
}

#[test]
fn people_of_a_source_bind_with_the_password_they_have_there() {
    isolated(
        "ldap::pass_through::people_of_a_source_bind_with_the_password_they_have_there",
        || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(async {
                let folder = tempfile::tempdir()?;
                let server = corp(folder.path());
                let config = config(folder.path());
                let sources = Sources::of(&config, None).unwrap();
                let tools = Tools::asking(
                    "failures_per_minute = 4\npass_through = [\"corp\"]\n",
                    Some(Arc::new(sources)),
                )
                .await;
                let own = id(&config, "erin").await;
                let hash = "{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=";
                let actor = Actor::source("corp");
                for entry in [
                    entry("erin", "corp", &own, &[("userPassword", "not the one at corp")]),
                    entry("frank", "other", &own, &[("userPassword", hash)]),
                    entry("gone", "corp", "00000000-0000-0000-0000-000000000000", &[]),
                ] {
                    tools.site.tree.add(&actor, &entry)?;
                }
                let erin = "uid=erin,ou=users,dc=dirless";
                let said = tools.expect(0, "ldapwhoami", As::Entry(erin, "at corp"), &[], "").await;
                assert!(said.contains(erin), "{said}");
                tools
                    .expect(49, "ldapwhoami", As::Entry(erin, "not the one at corp"), &[], "")
                    .await;
                tools.expect(53, "ldapwhoami", As::Entry(erin, ""), &[], "").await;
                // Another source's people, and whom the source does not know.
                tools
                    .expect(
                        49,
                        "ldapwhoami",
                        As::Entry("uid=frank,ou=users,dc=dirless", "at corp"),
                        &[],
                        "",
                    )
                    .await;
                tools
                    .expect(
                        49,
                        "ldapwhoami",
                        As::Entry("uid=gone,ou=users,dc=dirless", "at corp"),
                        &[],
                        "",
                    )
                    .await;
                let there = tools.expect(53, "ldappasswd", As::Root, &["-s", "x", erin], "").await;
                assert!(there.contains("set it there"), "{there}");
                // A source that is not there does not mean that the password is wrong, nor is it counted so.
                drop(server);
                for _ in 0..5 {
                    tools
                        .expect(52, "ldapwhoami", As::Entry(erin, "at corp"), &[], "")
                        .await;
                }
                tools
                    .expect(0, "ldapwhoami", As::Entry(ALICE, "alice secret"), &[], "")
                    .await;
                tools.site.stop().await;
                anyhow::Ok(())
            })
        },
    )
    .unwrap();
}

/// Counts what it is asked.
#[derive(Clone, Default)]
struct Counting(Arc<Mutex<usize>>);

impl PassThrough for Counting {
    fn verifier(&self, source: &str, _id: &str) -> Option<Verify> {
        let count = Arc::clone(&self.0);
        (source == "corp").then(|| -> Verify {
            Box::new(move |password| {
                *count.lock().unwrap() += 1;
                Ok(password == b"right")
            })
        })
    }
}

#[tokio::test]
async fn a_source_is_not_asked_more_often_than_somebody_may_be_wrong() {
    let counting = Counting::default();
    let tools = Tools::asking("failures_per_minute = 2\n", Some(Arc::new(counting.clone()))).await;
    tools
        .site
        .tree
        .add(&Actor::source("corp"), &entry("erin", "corp", "1", &[]))
        .unwrap();
    let erin = "uid=erin,ou=users,dc=dirless";
    tools.expect(0, "ldapwhoami", As::Entry(erin, "right"), &[], "").await;
    tools.expect(53, "ldapwhoami", As::Entry(erin, ""), &[], "").await;
    assert_eq!(*counting.0.lock().unwrap(), 1, "an empty password is not asked about");
    for code in [49, 49, 51, 51] {
        tools
            .expect(code, "ldapwhoami", As::Entry(erin, "wrong"), &[], "")
            .await;
    }
    assert_eq!(*counting.0.lock().unwrap(), 3);
    tools.site.stop().await;
}
