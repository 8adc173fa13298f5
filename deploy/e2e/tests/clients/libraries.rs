//! Libraries that applications are written with.

use std::time::Duration;

use dirless_e2e::ldap_host::{LdapHost, node_modules, people, python};
use dirless_testkit::{Program, eventually, isolated};

const PYTHON_LDAP: &str = r#"
import ldap, ldap.schema, ldap.filter, ldap.modlist
from ldap.controls import SimplePagedResultsControl
from ldap.controls.sss import SSSRequestControl
base = "dc=example,dc=com"
l = ldap.initialize("ldap://127.0.0.1")
l.set_option(ldap.OPT_REFERRALS, 0)
l.simple_bind_s("uid=alice,ou=users," + base, "correct horse")
assert l.whoami_s() == "dn:uid=alice,ou=users," + base
try:
    l.simple_bind_s("uid=alice,ou=users," + base, "wrong"); raise SystemExit("a wrong password was taken")
except ldap.INVALID_CREDENTIALS:
    pass
l.simple_bind_s()
[(dn, alice)] = l.search_s(base, ldap.SCOPE_SUBTREE, "(uid=alice)", ["*", "+"])
assert alice["uidNumber"] == [b"100001"] and alice["mail"] == [b"alice@example.com"], alice
assert b"cn=crew,ou=groups,dc=example,dc=com" in alice["memberOf"]
entry = l.read_subschemasubentry_s(l.search_subschemasubentry_s())
schema = ldap.schema.SubSchema(entry)
assert schema.get_obj(ldap.schema.ObjectClass, "posixAccount").must == ("cn", "uid", "uidNumber", "gidNumber", "homeDirectory"), "posixAccount"
assert schema.get_obj(ldap.schema.AttributeType, "uidNumber").single_value
assert schema.get_obj(ldap.schema.ObjectClass, "aitherService") is not None
control = SimplePagedResultsControl(True, size=7, cookie="")
names = []
while True:
    number = l.search_ext(base, ldap.SCOPE_SUBTREE, "(objectClass=posixAccount)", ["uid"], serverctrls=[control])
    _, data, _, controls = l.result3(number)
    names += [attributes["uid"][0] for _, attributes in data]
    control.cookie = controls[0].cookie
    if not control.cookie:
        break
assert len(names) == 32 and len(set(names)) == 32, names
number = l.search_ext(base, ldap.SCOPE_SUBTREE, "(objectClass=posixAccount)", ["uid"], serverctrls=[SSSRequestControl(ordering_rules=["-uid"])])
data = l.result3(number)[1]
uids = [attributes["uid"][0] for _, attributes in data]
assert uids == sorted(uids, reverse=True), uids
assert l.compare_s("cn=crew,ou=groups," + base, "memberUid", "carol") is True
for call, error in [
    (lambda: l.add_s("cn=x," + base, [("objectClass", [b"device"]), ("cn", [b"x"])]), ldap.UNWILLING_TO_PERFORM),
    (lambda: l.search_s("cn=no," + base, ldap.SCOPE_BASE), ldap.NO_SUCH_OBJECT),
    (lambda: l.search_ext_s(base, ldap.SCOPE_SUBTREE, sizelimit=3), ldap.SIZELIMIT_EXCEEDED),
    (lambda: l.search_ext_s(base, ldap.SCOPE_SUBTREE, serverctrls=[ldap.controls.RequestControl("1.2.3.4", True)]), ldap.UNAVAILABLE_CRITICAL_EXTENSION),
]:
    try:
        call(); raise SystemExit("expected %s" % error)
    except error:
        pass
number = l.search(base, ldap.SCOPE_SUBTREE); l.abandon(number)
many = ldap.filter.filter_format("(|" + "(uid=%s)" * 500 + ")", ["person%d" % n for n in range(500)])
assert len(l.search_s(base, ldap.SCOPE_SUBTREE, many, ["1.1"])) == 29
print("all of python-ldap")
"#;

const SYNCREPL: &str = r#"
import ldap, sys
from ldap.ldapobject import SimpleLDAPObject
from ldap.syncrepl import SyncreplConsumer
class Replica(SimpleLDAPObject, SyncreplConsumer):
    cookie, content = None, {}
    def syncrepl_get_cookie(self): return self.cookie
    def syncrepl_set_cookie(self, cookie): self.cookie = cookie
    def syncrepl_entry(self, dn, attributes, uuid):
        known = uuid in self.content
        self.content[uuid] = dn
        print("change" if known else "add", dn, flush=True)
    def syncrepl_delete(self, uuids):
        for uuid in uuids:
            if uuid in self.content:
                print("delete", self.content.pop(uuid), flush=True)
    def syncrepl_present(self, uuids, refreshDeletes=False): pass
    def syncrepl_refreshdone(self): print("refreshed", len(self.content), self.cookie, flush=True)
replica = Replica("ldap://127.0.0.1")
number = replica.syncrepl_search("dc=example,dc=com", ldap.SCOPE_SUBTREE, mode=sys.argv[1], filterstr="(objectClass=posixAccount)")
while replica.syncrepl_poll(msgid=number, all=1):
    pass
print("over", len(replica.content), flush=True)
"#;

#[test]
fn python_ldap_and_its_replica() {
    isolated("libraries::python_ldap_and_its_replica", || {
        let host = LdapHost::start()?;
        let said = Program::system("/usr/bin/python3")
            .args(["-c", PYTHON_LDAP])
            .succeed()?;
        assert_eq!(said.trim(), "all of python-ldap");
        let once = Program::system("/usr/bin/python3")
            .args(["-c", SYNCREPL, "refreshOnly"])
            .succeed()?;
        assert!(once.lines().any(|line| line == "over 32"), "{once}");
        let stays = Program::system("/usr/bin/python3")
            .args(["-c", SYNCREPL, "refreshAndPersist"])
            .spawn()?;
        let says = |line: &str| {
            eventually(Duration::from_secs(60), line, || {
                stays.log().lines().any(|said| said.starts_with(line)).then_some(())
            })
            .map_err(|error| anyhow::anyhow!("{error}; it said\n{}", stays.log()))
        };
        says("refreshed 32")?;
        host.world.put("local", &people(&[("dave", 100_050)]))?;
        says("add uid=dave,ou=users,dc=example,dc=com")?;
        host.world.put("local", &people(&[]))?;
        says("delete uid=dave,ou=users,dc=example,dc=com")
    })
    .unwrap();
}

const LDAP3: &str = r#"
import ldap3
from ldap3.core.exceptions import LDAPInvalidCredentialsResult
base = "dc=example,dc=com"
server = ldap3.Server("127.0.0.1", get_info=ldap3.ALL)
c = ldap3.Connection(server, "uid=alice,ou=users," + base, "correct horse", auto_bind=True, raise_exceptions=True)
assert base in server.info.naming_contexts, server.info
assert "posixAccount" in server.schema.object_classes and "uidNumber" in server.schema.attribute_types
assert c.extend.standard.who_am_i() == "dn:uid=alice,ou=users," + base
c.search(base, "(uid=alice)", attributes=[ldap3.ALL_ATTRIBUTES, ldap3.ALL_OPERATIONAL_ATTRIBUTES])
[alice] = c.entries
assert alice.uidNumber.value == 100001 and alice.mail.value == "alice@example.com", alice
assert alice.modifyTimestamp.value.year >= 2020
people = list(c.extend.standard.paged_search(base, "(objectClass=posixAccount)", attributes=["uid"], paged_size=10, generator=True))
assert len(people) == 32
assert c.compare("cn=crew,ou=groups," + base, "member", "uid=alice,ou=users," + base)
c.search(base, "(&(objectClass=posixGroup)(cn=crew))", attributes=["memberUid"])
[crew] = c.entries
assert sorted(crew.memberUid.values) == ["alice", "carol"]
try:
    ldap3.Connection(server, "uid=bob,ou=users," + base, "wrong", auto_bind=True, raise_exceptions=True)
    raise SystemExit("a wrong password was taken")
except LDAPInvalidCredentialsResult:
    pass
print("all of ldap3")
"#;

#[test]
fn ldap3() {
    isolated("libraries::ldap3", || {
        let _host = LdapHost::start()?;
        let said = Program::system(&python()?.to_string_lossy())
            .args(["-c", LDAP3])
            .succeed()?;
        assert_eq!(said.trim(), "all of ldap3");
        Ok(())
    })
    .unwrap();
}

const LDAPTS: &str = r#"
import assert from "node:assert";
import { Client, InvalidCredentialsError, UnwillingToPerformError } from "ldapts";
const base = "dc=example,dc=com";
const client = new Client({ url: "ldap://127.0.0.1" });
await client.bind("uid=alice,ou=users," + base, "correct horse");
const { searchEntries: [alice] } = await client.search(base, { filter: "(uid=alice)" });
assert.equal(alice.uidNumber, "100001");
assert.equal(alice.mail, "alice@example.com");
const people = await client.search(base, { filter: "(objectClass=posixAccount)", paged: { pageSize: 5 }, attributes: ["uid"] });
assert.equal(people.searchEntries.length, 32);
const groups = await client.search(base, { filter: `(&(objectClass=posixGroup)(member=uid=alice,ou=users,${base}))`, attributes: ["cn"] });
assert.deepEqual(groups.searchEntries.map((entry) => entry.cn).sort(), ["crew", "everyone"]);
assert.equal(await client.compare("cn=crew,ou=groups," + base, "memberUid", "bob"), false);
await assert.rejects(client.del("cn=crew,ou=groups," + base), UnwillingToPerformError);
await client.unbind();
const other = new Client({ url: "ldap://127.0.0.1" });
await assert.rejects(other.bind("uid=bob,ou=users," + base, "wrong"), InvalidCredentialsError);
await other.unbind();
console.log("all of ldapts");
"#;

#[test]
fn ldapts() {
    isolated("libraries::ldapts", || {
        let _host = LdapHost::start()?;
        let script = format!("cd '{}' && exec node --input-type=module", node_modules()?.display());
        let said = Program::system("sh").args(["-c", &script]).input(LDAPTS).succeed()?;
        assert_eq!(said.trim(), "all of ldapts");
        Ok(())
    })
    .unwrap();
}
