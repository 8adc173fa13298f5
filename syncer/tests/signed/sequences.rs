//! Any order of publishing, renewing, admitting and revoking keeps hosts going, and keeps out who was thrown out.

use std::collections::BTreeMap;

use dirless_syncer::signed::Wish;
use proptest::prelude::*;

use crate::support::*;

#[derive(Clone, Debug)]
enum Action {
    Publish(u8),
    Rotate,
    Join,
    Revoke(u8),
    Wait(u16),
    /// Looks at everything, so that memories of hosts differ.
    Look(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => any::<u8>().prop_map(Action::Publish),
        1 => Just(Action::Rotate),
        2 => Just(Action::Join),
        2 => any::<u8>().prop_map(Action::Revoke),
        1 => (0..1600_u16).prop_map(Action::Wait),
        3 => any::<u8>().prop_map(Action::Look),
    ]
}

#[derive(Default)]
struct World {
    hosts: BTreeMap<String, Host>,
    gone: Vec<Host>,
    joined: usize,
    published: Option<Vec<u8>>,
}

impl World {
    fn act(&mut self, tenant: &Tenant, action: &Action) {
        let signer = tenant.signer();
        match action {
            Action::Publish(number) => {
                let text = snapshot(2000 + u32::from(*number), &["alice", "bob"]);
                stock(&signer, "corp", &text);
                settle(&signer);
                self.published = Some(text);
            }
            Action::Rotate => {
                let epochs = [label("all")].into();
                let wish = Wish {
                    head: true,
                    epochs,
                    ..Wish::default()
                };
                signer.settle(&wish).unwrap();
            }
            Action::Join => {
                let name = format!("host-{}", self.joined);
                self.joined += 1;
                self.hosts.insert(name.clone(), tenant.join(&name, &["all"]));
            }
            Action::Revoke(which) => {
                let names: Vec<_> = self.hosts.keys().cloned().collect();
                if let Some(name) = names.get(usize::from(*which) % names.len().max(1)) {
                    signer.enroller().revoke(std::slice::from_ref(name)).unwrap();
                    settle(&signer);
                    self.gone.push(self.hosts.remove(name).unwrap());
                }
            }
            Action::Wait(minutes) => {
                tenant.minutes(u64::from(*minutes));
                settle(&signer);
            }
            Action::Look(which) => {
                let at = usize::from(*which) % self.hosts.len().max(1);
                let published = self.published.clone();
                if let Some(host) = self.hosts.values_mut().nth(at) {
                    Self::look(tenant, host, published.as_deref());
                }
            }
        }
    }

    fn look(tenant: &Tenant, host: &mut Host, published: Option<&[u8]>) {
        let seen = host.look(&tenant.folder(), tenant.clock.now()).unwrap();
        assert_eq!(seen.get("corp").map(String::as_bytes), published);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn hosts_follow_and_whoever_was_revoked_does_not(actions in proptest::collection::vec(action(), 1..14)) {
        let tenant = Tenant::new();
        settle(&tenant.signer());
        let mut world = World::default();
        for action in &actions {
            world.act(&tenant, action);
        }
        // Something new for everybody.
        world.act(&tenant, &Action::Publish(200));
        world.act(&tenant, &Action::Publish(201));
        let published = world.published.clone();
        for host in world.hosts.values_mut() {
            World::look(&tenant, host, published.as_deref());
        }
        for host in &mut world.gone {
            prop_assert!(host.look(&tenant.folder(), tenant.clock.now()).is_err());
        }
        let list = tenant.signer().enroller().nodes().unwrap();
        prop_assert_eq!(list.len(), world.hosts.len());
    }
}
