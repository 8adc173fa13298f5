//! What things are called in a directory.

use super::config::{LdapConfig, LockedBy, Nested, Preset};

/// The layout in force: the preset with what the configuration says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    pub(super) preset: Preset,
    pub(super) user_filter: String,
    pub(super) group_filter: String,
    pub(super) id: String,
    pub(super) user_name: String,
    pub(super) display_name: String,
    pub(super) email: String,
    pub(super) group_name: String,
    pub(super) member: String,
    pub(super) uid_number: String,
    pub(super) gid_number: String,
    pub(super) home: String,
    pub(super) shell: String,
    pub(super) keys: String,
    pub(super) nested: Nested,
    pub(super) numbers: bool,
    pub(super) disabled: Vec<LockedBy>,
}

impl Layout {
    /// The layout of a server that `config` describes.
    #[must_use]
    pub fn of(config: &LdapConfig) -> Self {
        let mut layout = Self::preset(config.preset);
        let own = &config.attributes;
        let set = |to: &mut String, from: &Option<String>| {
            if let Some(from) = from {
                to.clone_from(from);
            }
        };
        set(&mut layout.user_filter, &config.user_filter);
        set(&mut layout.group_filter, &config.group_filter);
        set(&mut layout.id, &own.id);
        set(&mut layout.user_name, &own.user_name);
        set(&mut layout.display_name, &own.display_name);
        set(&mut layout.email, &own.email);
        set(&mut layout.group_name, &own.group_name);
        set(&mut layout.member, &own.member);
        set(&mut layout.uid_number, &own.uid_number);
        set(&mut layout.gid_number, &own.gid_number);
        set(&mut layout.home, &own.home);
        set(&mut layout.shell, &own.shell);
        set(&mut layout.keys, &own.keys);
        layout.nested = config.nested.unwrap_or(layout.nested);
        layout.numbers = config.numbers;
        if let Some(disabled) = &config.disabled {
            layout.disabled.clone_from(disabled);
        }
        layout
    }

    /// A preset as it stands.
    #[must_use]
    pub fn preset(preset: Preset) -> Self {
        let text = |text: &str| text.to_owned();
        let mut layout = Self {
            preset,
            user_filter: text("(&(objectClass=posixAccount)(uid=*))"),
            group_filter: text("(&(objectClass=posixGroup)(cn=*))"),
            id: text("entryUUID"),
            user_name: text("uid"),
            display_name: text("cn"),
            email: text("mail"),
            group_name: text("cn"),
            member: text("memberUid"),
            uid_number: text("uidNumber"),
            gid_number: text("gidNumber"),
            home: text("homeDirectory"),
            shell: text("loginShell"),
            keys: text("sshPublicKey"),
            nested: Nested::None,
            numbers: false,
            disabled: vec![LockedBy::ShadowExpire, LockedBy::AccountLock, LockedBy::LockedTime],
        };
        match preset {
            Preset::Rfc2307 => {}
            Preset::Rfc2307bis => {
                layout.member = text("member");
                layout.group_filter = text("(|(objectClass=posixGroup)(objectClass=groupOfNames))");
                layout.nested = Nested::Expand;
            }
            Preset::Ad => {
                layout.user_filter = text("(&(objectCategory=person)(objectClass=user)(sAMAccountName=*))");
                layout.group_filter = text("(&(objectCategory=group)(sAMAccountName=*))");
                layout.id = text("objectGUID");
                layout.user_name = text("sAMAccountName");
                layout.display_name = text("displayName");
                layout.group_name = text("sAMAccountName");
                layout.member = text("member");
                layout.home = text("unixHomeDirectory");
                layout.keys = text("altSecurityIdentities");
                layout.nested = Nested::InChain;
                layout.disabled = vec![LockedBy::AccountControl, LockedBy::AccountExpires];
            }
        }
        layout
    }

    /// Attributes whose change tells of a change of the entry, the best first.
    pub(super) fn stamps(&self) -> &'static [&'static str] {
        match self.preset {
            Preset::Ad => &["uSNChanged"],
            Preset::Rfc2307 | Preset::Rfc2307bis => &["entryCSN", "modifyTimestamp"],
        }
    }

    /// The attributes to ask for of a user.
    pub(super) fn user_attributes(&self) -> Vec<String> {
        let own = [
            &self.id,
            &self.user_name,
            &self.display_name,
            &self.email,
            &self.uid_number,
            &self.gid_number,
            &self.home,
            &self.shell,
            &self.keys,
        ];
        let of_preset: &[&str] = match self.preset {
            Preset::Ad => &["primaryGroupID", "sshPublicKey"],
            Preset::Rfc2307 | Preset::Rfc2307bis => &[],
        };
        let locks = self.disabled.iter().map(|by| match by {
            LockedBy::AccountControl => "userAccountControl",
            LockedBy::AccountExpires => "accountExpires",
            LockedBy::ShadowExpire => "shadowExpire",
            LockedBy::AccountLock => "nsAccountLock",
            LockedBy::LockedTime => "pwdAccountLockedTime",
        });
        let more = of_preset
            .iter()
            .copied()
            .chain(locks)
            .chain(self.stamps().iter().copied());
        own.into_iter().cloned().chain(more.map(ToOwned::to_owned)).collect()
    }

    /// The attributes to ask for of a group.
    pub(super) fn group_attributes(&self, members_page: Option<u32>) -> Vec<String> {
        let members = match members_page {
            Some(count) => format!("{};range=0-{}", self.member, count.saturating_sub(1)),
            None => self.member.clone(),
        };
        let mut all = vec![
            self.id.clone(),
            self.group_name.clone(),
            self.gid_number.clone(),
            members,
        ];
        if self.preset == Preset::Ad {
            all.push("objectSid".to_owned());
        }
        all.extend(self.stamps().iter().map(|text| (*text).to_owned()));
        all
    }
}
