//! Libraries that scripts write with.

use std::path::Path;

use super::*;

const PYTHON_LDAP: &str = r#"
import sys, ldap, ldap.modlist
from ldap.controls.readentry import PreReadControl, PostReadControl
from ldap.controls import AssertionControl
url, socket = sys.argv[1:3]
base = "dc=dirless"
l = ldap.initialize(socket)
l.sasl_external_bind_s()
assert l.whoami_s() == "dn:cn=manager,dc=dirless", l.whoami_s()
dn = "uid=carol,ou=users," + base
carol = {"objectClass": [b"inetOrgPerson", b"posixAccount"], "cn": [b"Carol C"], "sn": [b"C"],
         "uidNumber": [b"7001"], "gidNumber": [b"7001"], "homeDirectory": [b"/home/carol"], "userPassword": [b"carol secret"]}
l.add_s(dn, ldap.modlist.addModlist(carol))
[(_, held)] = l.search_s(dn, ldap.SCOPE_BASE, attrlist=["*", "+"])
assert held["uid"] == [b"carol"] and held["creatorsName"] == [b"cn=manager,dc=dirless"], held
assert "userPassword" not in held
changed = dict(carol, cn=[b"Carol D"], description=["gr\u00fc\u00dfe".encode()])
l.modify_s(dn, ldap.modlist.modifyModlist(carol, changed))
number = l.modify_ext(dn, [(ldap.MOD_INCREMENT, "uidNumber", [b"5"])],
    serverctrls=[PreReadControl(criticality=True, attrList=["uidNumber"]), PostReadControl(criticality=True, attrList=["uidNumber"])])
controls = l.result3(number)[3]
assert [c.entry["uidNumber"] for c in controls] == [[b"7001"], [b"7006"]], [c.entry for c in controls]
for call, error in [
    (lambda: l.add_s(dn, ldap.modlist.addModlist(carol)), ldap.ALREADY_EXISTS),
    (lambda: l.modify_s(dn, [(ldap.MOD_ADD, "nothing", [b"x"])]), ldap.UNDEFINED_TYPE),
    (lambda: l.modify_s(dn, [(ldap.MOD_REPLACE, "uidNumber", [b"many"])]), ldap.INVALID_SYNTAX),
    (lambda: l.modify_s(dn, [(ldap.MOD_DELETE, "sn", None)]), ldap.OBJECT_CLASS_VIOLATION),
    (lambda: l.modify_s(dn, [(ldap.MOD_DELETE, "mail", None)]), ldap.NO_SUCH_ATTRIBUTE),
    (lambda: l.modify_s(dn, [(ldap.MOD_ADD, "cn", [b"carol d"])]), ldap.TYPE_OR_VALUE_EXISTS),
    (lambda: l.modify_ext_s(dn, [(ldap.MOD_REPLACE, "sn", [b"E"])], serverctrls=[AssertionControl(True, "(sn=D)")]), ldap.ASSERTION_FAILED),
    (lambda: l.delete_s("ou=users," + base), ldap.NOT_ALLOWED_ON_NONLEAF),
    (lambda: l.rename_s(dn, "uid=alice"), ldap.ALREADY_EXISTS),
]:
    try:
        call(); raise SystemExit("expected %s" % error)
    except error:
        pass
try:
    l.delete_s("uid=none,ou=nowhere,ou=users," + base); raise SystemExit("deleted")
except ldap.NO_SUCH_OBJECT as error:
    assert error.args[0]["matched"] == "ou=users," + base, error
# All of a change or nothing.
try:
    l.modify_s(dn, [(ldap.MOD_REPLACE, "sn", [b"Z"]), (ldap.MOD_ADD, "cn", [b"Carol D"])])
    raise SystemExit("half a change")
except ldap.TYPE_OR_VALUE_EXISTS:
    pass
assert l.search_s(dn, ldap.SCOPE_BASE)[0][1]["sn"] == [b"C"]
c = ldap.initialize(url)
c.simple_bind_s(dn, "carol secret")
assert c.whoami_s() == "dn:" + dn
l.passwd_s(dn, None, "another secret")
l.rename_s(dn, "uid=caroline", newsuperior="ou=agents," + base, delold=1)
moved = "uid=caroline,ou=agents," + base
assert l.search_s(moved, ldap.SCOPE_BASE)[0][1]["uid"] == [b"caroline"]
c.simple_bind_s(moved, "another secret")
l.delete_s(moved)
try:
    c.simple_bind_s(moved, "another secret"); raise SystemExit("a deleted entry has bound")
except ldap.INVALID_CREDENTIALS:
    pass
print("all of python-ldap")
"#;

const LDAP3: &str = r#"
import sys, ldap3
from ldap3 import MODIFY_ADD, MODIFY_DELETE, MODIFY_REPLACE
from urllib.parse import urlparse
url = urlparse(sys.argv[1])
server = ldap3.Server(url.hostname, port=url.port, get_info=ldap3.ALL)
alice = "uid=alice,ou=users,dc=dirless"
c = ldap3.Connection(server, alice, "alice secret", auto_bind=True)
assert c.extend.standard.who_am_i() == "dn:" + alice
dn = "cn=ops,ou=groups,dc=dirless"
assert c.add(dn, ["groupOfNames"], {"member": [alice]}), c.result
assert c.modify(dn, {"member": [(MODIFY_ADD, ["uid=bob,ou=users,dc=dirless"])], "description": [(MODIFY_REPLACE, ["they run it"])]}), c.result
assert c.search(dn, "(member=uid=bob,ou=users,dc=dirless)", attributes=["description", "modifiersName"]), c.result
assert c.entries[0].modifiersName.value == alice and c.entries[0].description.value == "they run it"
assert c.modify(dn, {"member": [(MODIFY_DELETE, [alice])]}), c.result
assert not c.modify(dn, {"cn": [(MODIFY_DELETE, [])]}) and c.result["description"] == "notAllowedOnRDN", c.result
assert c.modify_dn(dn, "cn=crew"), c.result
assert c.modify_dn("cn=crew,ou=groups,dc=dirless", "cn=crew", new_superior="ou=roles,dc=dirless"), c.result
assert not c.delete("cn=crew,ou=groups,dc=dirless") and c.result["description"] == "noSuchObject", c.result
assert c.delete("cn=crew,ou=roles,dc=dirless"), c.result
assert c.extend.standard.modify_password(alice, "alice secret", "new secret"), c.result
assert ldap3.Connection(server, alice, "new secret", auto_bind=True).bound
bob = ldap3.Connection(server, "uid=bob,ou=users,dc=dirless", "bob secret", auto_bind=True)
assert not bob.delete(alice) and bob.result["description"] == "insufficientAccessRights", bob.result
print("all of ldap3")
"#;

/// Runs a script of python-ldap with the addresses of the server, and answers what it says.
pub(super) async fn python(tools: &Tools, script: &str) -> String {
    script_of(Path::new("/usr/bin/python3"), tools, script).await
}

async fn script_of(python: &Path, tools: &Tools, script: &str) -> String {
    let socket: String = tools
        .socket
        .display()
        .to_string()
        .bytes()
        .map(|byte| format!("%{byte:02X}"))
        .collect();
    let mut command = Command::new(python);
    let url = format!("ldap://127.0.0.1:{}", tools.address().port());
    command.args(["-c", script, &url, &format!("ldapi://{socket}")]);
    let (code, said) = run(command, "").await;
    assert_eq!(code, 0, "{said}");
    said
}

#[tokio::test]
async fn python_ldap_writes() {
    let tools = Tools::start("").await;
    assert_eq!(python(&tools, PYTHON_LDAP).await.trim(), "all of python-ldap");
    tools.site.stop().await;
}

#[tokio::test]
async fn ldap3_writes() {
    let rules = "[[ldap.access]]\nwho = \"dn:uid=alice,ou=users,dc=dirless\"\nrights = [\"write\"]\nattributes = [\"*\", \"userPassword\"]\n";
    let tools = Tools::start(rules).await;
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing; run: deploy/setup test",
        python.display()
    );
    assert_eq!(script_of(&python, &tools, LDAP3).await.trim(), "all of ldap3");
    tools.site.stop().await;
}
